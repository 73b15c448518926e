-- Subscriptions with their current status and their next one. An id finds that subscription. A customer finds a page of theirs,
-- by create_date and id. Both together find the subscription if it is that customer's.
create function subscriptions(
    subscription_id varchar,
    of_customer_id varchar,
    -- The page begins after this position. If after_id is null, it begins with the first one.
    after_create_date timestamp,
    after_id varchar,
    -- The most subscriptions of the page; null is no limit.
    at_most integer,
    -- After this time nobody waits for the answer.
    seconds double precision
)
    returns table (
        id varchar,
        club_id integer,
        customer_id varchar,
        create_date timestamp,
        -- Null, as is its date, if no entry is in effect.
        status_id integer,
        effect_date timestamp,
        -- The first status after now that is another one. Null, as is its date, if none is scheduled, or not at the first
        -- 100 scheduled dates.
        next_status_id integer,
        next_effect_date timestamp
    )
    language plpgsql stable
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    as $$
    #variable_conflict use_column
    declare
        moment constant timestamp := utc_now();
        ids varchar[] := array[subscriptions.subscription_id];
        last_date timestamp;
    begin
        if subscriptions.subscription_id is null then
            ids := array(
                select id from subscription
                where customer_store_id = of_customer_id
                    and (
                        after_id is null
                        or (coalesce(iso_moment(create_date), '-infinity'), id collate "C")
                            > (coalesce(after_create_date, '-infinity'), after_id)
                    )
                -- Nulls come first. A date that cannot be shown counts as null.
                order by coalesce(iso_moment(create_date), '-infinity'), id collate "C"
                limit at_most
            );
        end if;
        foreach id in array ids loop
            select subscription.club_id, subscription.customer_store_id, iso_moment(subscription.create_date),
                current.status_id, iso_moment(current.effect_date),
                (
                    select max(scheduled.effect_date)
                    from (
                        select distinct entry.effect_date
                        from subscription_status_history entry
                        where entry.subscription_id collate "C" = subscription.id
                            and entry.effect_date > moment and entry.effect_date < '10000-01-01'
                        order by entry.effect_date
                        limit 100
                    ) scheduled
                )
            into club_id, customer_id, create_date, status_id, effect_date, last_date
            from subscription
            left join lateral (
                select status_id, effect_date from subscription_status
                where subscription_id = subscription.id collate "C"
                limit 1
            ) current on true
            where subscription.id = subscriptions.id
                and (of_customer_id is null or customer_store_id = of_customer_id);
            continue when not found;
            next_status_id := null;
            next_effect_date := null;
            if last_date is not null then
                select next.status_id, next.effect_date
                into next_status_id, next_effect_date
                from unnest(
                    status_timeline(
                        array(
                            select entry from subscription_status_history entry
                            where entry.subscription_id collate "C" = subscriptions.id and entry.effect_date <= last_date
                            order by entry.effect_date, entry.create_date nulls first, entry.id collate "C"
                        ),
                        moment
                    )
                ) next
                where next.effect_date > moment and next.status_id is distinct from subscriptions.status_id
                order by next.effect_date
                limit 1;
            end if;
            return next;
            perform give_up_after(seconds);
        end loop;
    end
    $$;
