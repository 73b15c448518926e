-- The ids of the subscriptions that are ACTIVE in a club that is ACTIVE or CLOSED, ascending by bytes.
--
-- Current status is what subscription_statuses_at() says. To ask it for each subscription would take too long, so one pass
-- over an index tells most of them apart, from four maxima of their entries in effect:
--
-- - An ACTIVE entry that took effect after every other status and was recorded no earlier than any of them: ACTIVE. It
--   cannot be a void return, because nothing but another status that was recorded later makes a return void.
-- - Another status that took effect after every ACTIVE entry: not ACTIVE. Only ACTIVE entries can be void.
-- - Neither: the definition is asked.
--
-- The settings leave one plan, whatever the statistics say: two indexes read side by side in the order of the ids. So
-- the cost is that of the rows read. It reads in chunks, and asks for
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
    set enable_hashjoin = off
    set enable_nestloop = off
    set max_parallel_workers_per_gather = 0
    set jit = off
    as $$
    declare
        moment constant timestamp := utc_now();
        -- An id's successor in byte order is the id and the smallest character.
        from_id varchar := coalesce(after_id || chr(1), '');
        -- Some candidates are not eligible, so a page takes more of them.
        missing integer := at_most;
        chunk_size integer := least(missing + missing / 3, 10000);
        candidates record;
        dropped_clubs integer[];
        dropped_ids varchar[];
        found_ids varchar[] := '{}';
    begin
        loop
            select array_agg(id) as ids, array_agg(club_id) as club_ids, array_agg(id) filter (where doubtful) as doubtful_ids
            into candidates
            from (
                select subscription.id, subscription.club_id,
                    (other_from is null or active_and_recorded >= other_or_recorded) is not true as doubtful
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
            ) candidate;

            dropped_clubs := array(
                select club_id
                from (select distinct club_id from unnest(candidates.club_ids) club_id) club
                where (select club_status_id in (1, 2) from club_status_at(club_id, moment)) is not true
            );
            dropped_ids := array(
                select unnest(candidates.doubtful_ids)
                except
                select subscription_id from subscription_statuses_at(candidates.doubtful_ids, moment) where status_id = 1
            );
            -- The subqueries are hashed, because they stand in an expression; the rows keep their order.
            found_ids := found_ids || array(
                select id
                from unnest(candidates.ids, candidates.club_ids) candidate (id, club_id)
                where (club_id in (select unnest(dropped_clubs)) or id in (select unnest(dropped_ids))) is not true
            );

            exit when cardinality(candidates.ids) < chunk_size
                or candidates.ids is null
                or cardinality(found_ids) >= at_most
                or pg_column_size(found_ids) > enough_bytes;
            if clock_timestamp() > statement_timestamp() + make_interval(secs => seconds) then
                raise exception 'the caller has given up' using errcode = 'query_canceled';
            end if;
            from_id := candidates.ids[chunk_size] || chr(1);
            -- As many as are still missing. Where few candidates are eligible, ever more.
            missing := at_most - cardinality(found_ids);
            chunk_size := least(greatest(missing + missing / 3, case when missing > chunk_size / 2 then 2 * chunk_size end), 10000);
        end loop;
        return found_ids[:coalesce(at_most, cardinality(found_ids))];
    end
    $$;
