-- The ids of the subscriptions that are ACTIVE in a club that is ACTIVE or CLOSED, ascending by bytes, in chunks.
--
-- Current status is what subscription_statuses_at() says. To ask it for each subscription would take too long, so one pass
-- over an index tells most of them apart, from four maxima of their entries in effect:
--
-- - An ACTIVE entry that took effect after every other status and was recorded no earlier than any of them: ACTIVE. It
--   cannot be a void return, because only another status that was recorded later makes a return void.
-- - Another status that took effect after every ACTIVE entry: not ACTIVE. Only ACTIVE entries can be void.
-- - Neither: the subscription is in doubt, and the definition is asked.
--
-- The settings leave one plan, whatever the statistics say: two indexes are read side by side in the order of the ids. So
-- the cost is that of the rows read.
create function eligible_subscriptions(
    -- Ids after this one; from the first one on, if null.
    after_id varchar,
    -- At most this number of ids; all, if null.
    at_most integer,
    -- The list ends early once its ids take more bytes than this.
    enough_bytes integer,
    -- After this time nobody waits for the answer.
    seconds double precision
)
    returns setof varchar[]
    language plpgsql stable
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set enable_hashjoin = off
    set enable_nestloop = off
    set max_parallel_workers_per_gather = 0
    set jit = off
    as $$
    declare
        moment constant timestamp := utc_now();
        -- An id's successor in byte order is the id and the smallest character.
        from_id varchar := coalesce(after_id || chr(1), '');
        missing integer := at_most;
        -- Some candidates are not eligible, so a page takes a third more.
        chunk_size integer := least(missing + missing / 3, 10000);
        chunk record;
        bytes integer := 0;
    begin
        loop
            with candidate as materialized (
                select subscription.id, subscription.club_id,
                    (other_from is null or active_and_recorded >= other_or_recorded) is not true as in_doubt
                from (
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
                ) latest
                join subscription on subscription.id collate "C" = latest.subscription_id
                where subscription.id collate "C" >= from_id
                    and subscription.club_id is not null
                    and active_from is not null
                    and (active_from < other_from) is not true
                order by subscription.id collate "C"
                limit chunk_size
            ),
            open_club as (
                select club_id
                from (select distinct club_id from candidate) club
                where (select club_status_id in (1, 2) from club_status_at(club_id, moment))
            ),
            doubt_resolved as (
                select subscription_id
                from subscription_statuses_at(array(select id from candidate where in_doubt), moment)
                where status_id = 1
            )
            -- The subqueries are hashed, because they stand in an expression; the candidates keep their order.
            select count(*) as size, max(id collate "C") as last_id,
                array_agg(id) filter (
                    where club_id in (select club_id from open_club)
                        and (not in_doubt or id in (select subscription_id from doubt_resolved))
                ) as ids
            into chunk
            from candidate;

            chunk.ids := coalesce(chunk.ids[:missing], chunk.ids, '{}');
            return next chunk.ids;
            missing := missing - cardinality(chunk.ids);
            bytes := bytes + pg_column_size(chunk.ids);
            exit when chunk.size < chunk_size or missing = 0 or bytes > enough_bytes;
            if clock_timestamp() > statement_timestamp() + make_interval(secs => seconds) then
                raise exception 'the caller has given up' using errcode = 'query_canceled';
            end if;
            from_id := chunk.last_id || chr(1);
            -- For the missing ones. Where few candidates are eligible, the chunks grow.
            chunk_size := least(
                greatest(missing + missing / 3, case when missing > chunk_size / 2 then 2 * chunk_size end), 10000
            );
        end loop;
    end
    $$;
