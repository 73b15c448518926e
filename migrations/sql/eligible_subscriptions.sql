-- The ids of the subscriptions that are ACTIVE in a club that is ACTIVE or CLOSED, ascending by bytes, in chunks. Two indexes
-- are read side by side in the order of the ids.
create function eligible_subscriptions(
    -- Ids after this one; from the first one on, if null.
    after_id varchar,
    -- At most this number of ids; all, if null.
    at_most integer,
    -- Without those that are charged for this month, if it is not null.
    not_charged_for date,
    -- The list ends early once its ids take more bytes than this.
    enough_bytes integer,
    -- After this time nobody waits for the answer.
    seconds double precision
)
    returns setof varchar[]
    language plpgsql stable
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- Planned on ten rows, the join is a nested loop. It read 7 million rows of 4,000 subscriptions.
    set enable_nestloop = off
    as $$
    declare
        -- An id's successor in byte order is the id and the smallest character.
        from_id varchar := coalesce(after_id || chr(1), '');
        missing integer := at_most;
        -- Some subscriptions are not eligible, so a page takes twice as many.
        chunk_size integer := least(2 * missing, 20000);
        chunk_end record;
        is_last_chunk boolean;
        clubs integer[];
        charged varchar[];
        ids varchar[];
        bytes integer := 0;
    begin
        loop
            -- The club is read for the plan: an index without it could look cheaper, and would be read from end to end.
            select id, club_id into chunk_end from subscription
            where id collate "C" >= from_id
            order by id collate "C"
            offset chunk_size limit 1;
            is_last_chunk := not found;
            -- With both ends known, no plan reads more than the chunk.
            if is_last_chunk then
                select id, club_id into chunk_end from subscription order by id collate "C" desc limit 1;
            end if;
            clubs := array(
                select distinct club_id from subscription where id collate "C" >= from_id and id collate "C" <= chunk_end.id
            );
            if not_charged_for is not null then
                charged := array(
                    select subscription_id
                    from charge_attempt attempt
                    where billing_month = not_charged_for
                        and subscription_id collate "C" >= from_id and subscription_id collate "C" <= chunk_end.id
                        and state = 'charged'
                        and not exists (select from orphan_note where attempt_id = attempt.id)
                );
            end if;
            ids := array(
                select subscription.id
                from subscription_status current
                join subscription on subscription.id collate "C" = current.subscription_id
                where current.subscription_id >= from_id and current.subscription_id <= chunk_end.id
                    and subscription.id collate "C" >= from_id and subscription.id collate "C" <= chunk_end.id
                    and current.status_id = 1
                    -- These subqueries are hashed. An array would be searched for each id, and without `is true` the first one
                    -- would be a join.
                    and (club_id in (
                        select club_id
                        from unnest(clubs) club_id
                        where (
                            select latest.club_status_id in (1, 2) from club_latest_status latest
                            where latest.club_id = club_id.club_id
                            limit 1
                        )
                    )) is true
                    and (not_charged_for is null or subscription.id not in (select unnest(charged)))
                order by current.subscription_id
                limit missing
            );
            return next ids;
            missing := missing - cardinality(ids);
            bytes := bytes + pg_column_size(ids);
            exit when is_last_chunk or missing = 0 or bytes > enough_bytes;
            perform give_up_after(seconds);
            from_id := chunk_end.id || chr(1);
            -- For the missing ones. Where few are eligible, the chunks grow.
            chunk_size := least(
                greatest(2 * missing, case when missing > chunk_size / 4 then 2 * chunk_size end), 20000
            );
        end loop;
    end
    $$;
