-- Records a status and, with `return_after_days`, the automatic return of a pause: both rows or none. The ids of the rows
-- are the caller's, so a call whose answer was lost is repeated safely. Without such a subscription of the customer nothing
-- is recorded, and `effective_from` is null.
create function record_status(
    subscription_id varchar,
    -- anybody's, if null
    customer_id varchar,
    status_id integer,
    -- now, if null
    effect_date timestamp,
    details varchar,
    return_after_days integer,
    entry_id varchar,
    return_entry_id varchar,
    out effective_from timestamp,
    out automatic_return timestamp
)
    language plpgsql
    set lock_timeout = '300ms'
    set enable_seqscan = off
    set enable_indexonlyscan = off
    as $$
    #variable_conflict use_column
    declare
        moment constant timestamp := utc_now();
    begin
        effective_from := coalesce(record_status.effect_date, moment);
        automatic_return := effective_from + make_interval(days => return_after_days);

        insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
        select entry.id, subscription.id, entry.status_id, entry.effect_date, moment, entry.details
        from subscription
        cross join (values
            (entry_id, record_status.status_id, effective_from, record_status.details),
            (return_entry_id, 1, automatic_return, automatic_return_details())
        ) entry (id, status_id, effect_date, details)
        where subscription.id = record_status.subscription_id
            and (record_status.customer_id is null or customer_store_id = record_status.customer_id)
            and entry.effect_date is not null
        on conflict (id) do nothing;

        if not found then
            -- There is no such subscription, or an earlier call of the same request wrote the rows.
            select entry.effect_date into effective_from from subscription_status_history entry where id = entry_id;
            select entry.effect_date into automatic_return from subscription_status_history entry where id = return_entry_id;
        end if;
    end
    $$;
