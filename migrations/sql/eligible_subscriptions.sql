-- The ids of the subscriptions that are ACTIVE in a club that is ACTIVE or CLOSED, ascending by bytes.
--
-- Current status is what subscription_status_at() says. To ask it for each subscription would take too long, so one pass
-- over an index tells most of them apart, from four maxima of their entries in effect:
--
-- - An ACTIVE entry that took effect after every other status and was recorded no earlier than any of them: ACTIVE. It
--   cannot be a void return, because nothing but another status that was recorded later makes a return void.
-- - Another status that took effect after every ACTIVE entry: not ACTIVE. Only ACTIVE entries can be void.
-- - Neither: the definition is asked.
--
-- The settings leave one plan, whatever the statistics say: two indexes read side by side in the order of the ids. So
-- the cost is that of the rows read, and nothing is sorted or joined in a nested loop. It reads in chunks, and asks for
-- each chunk's clubs alone. Between chunks it gives up once the caller has.
create function eligible_subscriptions(
    -- ids after this one; from the first one on, if null
    after_id varchar,
    -- at most so many; all, if null
    at_most integer,
    -- It ends early once the ids take more bytes than this.
    enough_bytes integer,
    seconds double precision
)
    returns varchar[]
    language plpgsql stable
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set enable_hashagg = off
    set enable_hashjoin = off
    set enable_nestloop = off
    set max_parallel_workers_per_gather = 0
    set jit = off
    as $$
    declare
        moment constant timestamp := utc_now();
        -- An id's successor in byte order is the id and the smallest character.
        from_id varchar := coalesce(after_id || chr(1), '');
        chunk_size integer := least(at_most, 10000);
        chunk record;
        found_ids varchar[] := '{}';
    begin
        loop
            with latest as (
                select subscription_id collate "C" as subscription_id,
                    max(effect_date) filter (where status_id = 1) as active_from,
                    max(effect_date) filter (where status_id is distinct from 1) as other_from,
                    -- Nothing is subtracted from the earliest date that there is.
                    max(least(effect_date - interval '1 microsecond', create_date))
                        filter (where status_id = 1 and effect_date >= '0001-01-01') as active_and_recorded,
                    max(greatest(effect_date, create_date))
                        filter (where status_id is distinct from 1) as other_or_recorded
                from subscription_status_history
                where subscription_id collate "C" >= from_id and effect_date <= moment
                group by subscription_id collate "C"
            ),
            candidate as materialized (
                select subscription.id, subscription.club_id
                from subscription
                join latest on latest.subscription_id = subscription.id collate "C"
                where subscription.id collate "C" >= from_id
                    and case
                        when other_from is null or active_and_recorded >= other_or_recorded then true
                        when active_from is null or active_from < other_from then false
                        else (select status_id = 1 from subscription_status_at(subscription.id, moment))
                    end
                order by subscription.id collate "C"
                limit chunk_size
            ),
            open_club as (
                select club_id
                from (select distinct club_id from candidate) club
                where (select club_status_id in (1, 2) from club_status_at(club_id, moment))
            )
            -- The candidates are read in their order.
            select count(*) as size, max(id collate "C") as last_id, array_agg(id) filter (where is_open) as ids
            into chunk
            -- The subquery is hashed, because it stands in an expression.
            from (select id, club_id in (select club_id from open_club) as is_open from candidate) candidate;

            found_ids := found_ids || chunk.ids;
            exit when chunk.size < chunk_size
                or cardinality(found_ids) >= at_most
                or pg_column_size(found_ids) > enough_bytes;
            if clock_timestamp() > statement_timestamp() + make_interval(secs => seconds) then
                raise exception 'the caller has given up' using errcode = 'query_canceled';
            end if;
            from_id := chunk.last_id || chr(1);
            -- Larger where few of a chunk are eligible, so that a small page does not take many chunks.
            chunk_size := least(2 * chunk_size, 10000);
        end loop;
        return found_ids[:coalesce(at_most, cardinality(found_ids))];
    end
    $$;
