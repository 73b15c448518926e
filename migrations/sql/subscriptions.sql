-- What the API can write: the years 1 to 9999. Others may have written 'infinity'.
create function iso_moment(moment timestamp) returns timestamp language sql immutable
    as $$ select case when moment >= '0001-01-01' and moment < '10000-01-01' then moment end $$;

-- Subscriptions with their status now and their next one: the one with this id, or all of a customer. With both, the one
-- with this id if it is that customer's.
create function subscriptions(
    subscription_id varchar,
    customer_id varchar,
    -- After this time nobody waits for the answer.
    seconds double precision
)
    returns table (
        id varchar,
        club_id integer,
        customer_store_id varchar,
        create_date timestamp,
        -- Null, as is its date, if no entry is in effect.
        status_id integer,
        effect_date timestamp,
        -- Null, as is its date, if none is scheduled.
        next_status_id integer,
        next_effect_date timestamp
    )
    language plpgsql stable
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_indexonlyscan = off
    as $$
    #variable_conflict use_column
    declare
        moment constant timestamp := utc_now();
        ids varchar[] := array[subscriptions.subscription_id];
        scheduled boolean;
    begin
        if subscriptions.subscription_id is null then
            ids := array(
                select id from subscription
                where customer_store_id = subscriptions.customer_id
                order by create_date nulls first, id collate "C"
            );
        end if;
        foreach id in array ids loop
            select subscription.club_id, subscription.customer_store_id, iso_moment(subscription.create_date)
            into club_id, customer_store_id, create_date
            from subscription
            where subscription.id = subscriptions.id
                and (subscriptions.customer_id is null or customer_store_id = subscriptions.customer_id);
            continue when not found;
            select current.status_id, iso_moment(current.effect_date), current.scheduled
            into status_id, effect_date, scheduled
            from subscription_status_at(subscriptions.id, moment) current;
            next_status_id := null;
            next_effect_date := null;
            if scheduled then
                select next.status_id, next.effect_date
                into next_status_id, next_effect_date
                from subscription_next_status(subscriptions.id, status_id, moment, seconds) next;
            end if;
            return next;
        end loop;
    end
    $$;
