-- Records a status and, with `return_after_days`, the automatic return of a pause: both rows or none. The ids of the rows
-- are the caller's, so a call whose answer was lost is repeated safely: it finds its own rows, and no limit refuses it.
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
    -- The most changes of the subscription in 24 hours, by create_date; no limit, if null. An automatic return is part of
    -- its pause.
    changes_per_day integer,
    -- After this time nobody waits for the answer.
    seconds double precision,
    -- recorded, subscription_not_found (the customer has no such one) or too_many_changes
    out verdict text,
    out effective_from timestamp,
    out automatic_return timestamp,
    -- Seconds until a change is possible, if there were too many.
    out retry_after integer
)
    language plpgsql
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    as $$
    #variable_conflict use_column
    declare
        moment constant timestamp := utc_now();
        own_date timestamp;
    begin
        effective_from := coalesce(record_status.effect_date, moment);
        automatic_return := effective_from + make_interval(days => return_after_days);
        if changes_per_day is not null then
            -- The calls of one subscription count one after the other.
            perform require_read_committed();
            perform
            from subscription
            where subscription.id = record_status.subscription_id
                and (record_status.customer_id is null or customer_store_id = record_status.customer_id)
            for no key update;
        end if;

        with subject as (
            select subscription.id,
                (
                    -- Another change is possible when this one is a day old.
                    select entry.create_date
                    from subscription_status_history entry
                    where changes_per_day is not null
                        and entry.subscription_id collate "C" = subscription.id
                        and entry.create_date > moment - interval '1 day'
                        and not is_automatic_return(entry.status_id, entry.details)
                    order by entry.create_date desc
                    offset changes_per_day - 1
                    limit 1
                ) as one_too_many
            from subscription
            where subscription.id = record_status.subscription_id
                and (record_status.customer_id is null or customer_store_id = record_status.customer_id)
        ),
        recorded as (
            insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
            select entry.id, subject.id, entry.status_id, entry.effect_date, moment, entry.details
            from subject
            cross join (values
                (entry_id, record_status.status_id, effective_from, record_status.details),
                (return_entry_id, 1, automatic_return, automatic_return_details())
            ) entry (id, status_id, effect_date, details)
            where one_too_many is null and entry.effect_date is not null
            on conflict (id) do nothing
            returning id
        )
        select
            case
                when exists (select from recorded) then 'recorded'
                when one_too_many is not null then 'too_many_changes'
            end,
            ceil(extract(epoch from one_too_many + interval '1 day' - moment))
        into verdict, retry_after
        from subject;

        if verdict is distinct from 'recorded' then
            -- An earlier call of the same request may have written the rows.
            select entry.effect_date into own_date from subscription_status_history entry where id = entry_id;
            if found then
                verdict := 'recorded';
                retry_after := null;
                effective_from := own_date;
                select entry.effect_date into automatic_return from subscription_status_history entry where id = return_entry_id;
            else
                verdict := coalesce(verdict, 'subscription_not_found');
            end if;
        end if;
        perform give_up_after(seconds);
    end
    $$;
