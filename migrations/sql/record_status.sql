-- Records a status and what it needs: the automatic return of a pause, and entries that keep the definition of status in
-- line with what the customer means. All rows or none. The ids come from the caller's, so a call whose answer was lost is
-- repeated safely: it finds its own rows, and no limit refuses it.
create function record_status(
    subscription_id varchar,
    -- anybody's, if null
    customer_id varchar,
    status_id integer,
    -- A moment or a day, which means its first moment in the billing time zone. Now, if both are null.
    effect_date timestamp,
    effect_day date,
    details varchar,
    -- A pause ends after these days, at this moment, or on this day, or it skips the month that begins on that day. All null:
    -- it lasts until the next change.
    return_after_days integer,
    until timestamp,
    until_day date,
    skipped_month date,
    billing_timezone text,
    change_id varchar,
    -- The most changes of the subscription in 24 hours, by create_date, or null for no limit. A change counts once, but all of
    -- them together record at most twice as many entries, or 200. With a limit, at most 100 dates are scheduled.
    changes_per_day integer,
    -- After this time nobody waits for the answer.
    seconds double precision,
    -- recorded, subscription_not_found (the customer has no such one), nothing_to_skip or too_many_changes. Or wrong_date,
    -- wrong_end or month_is_past: the caller's parameters cannot be meant.
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
        moment timestamp := utc_now();
        is_skip constant boolean := skipped_month is not null;
        entry_id constant varchar := status_entry_id(change_id, is_skip, 0);
        return_entry_id constant varchar := status_entry_id(change_id, is_skip, 1);
        recorded_at timestamp;
        last_date timestamp;
        ends timestamp;
        history subscription_status_history[];
        change subscription_status_history[];
        timeline subscription_status_history[];
        corrections subscription_status_history[] := '{}';
    begin
        -- The changes of one subscription happen one after the other.
        perform require_read_committed();
        perform
        from subscription
        where subscription.id = record_status.subscription_id
            and (record_status.customer_id is null or customer_store_id = record_status.customer_id)
        for no key update;
        if not found then
            verdict := 'subscription_not_found';
            return;
        end if;

        -- This call comes after those that it has seen. A call that began a moment later may have been faster. An earlier call
        -- of the same request may have written the rows.
        select
            greatest(
                moment,
                max(entry.effect_date) filter (
                    where entry.create_date < moment + interval '1 second' and entry.effect_date <= entry.create_date
                )
            ),
            greatest(
                moment,
                max(entry.create_date) filter (where entry.create_date < moment + interval '1 second')
                    + interval '1 microsecond'
            ),
            max(entry.effect_date),
            max(entry.effect_date) filter (where id = entry_id),
            max(entry.effect_date) filter (where id = return_entry_id)
        into moment, recorded_at, last_date, effective_from, automatic_return
        from subscription_status_history entry
        where entry.subscription_id collate "C" = record_status.subscription_id and entry.effect_date is not null;
        if effective_from is not null then
            verdict := 'recorded';
            return;
        end if;

        effective_from := case
            when is_skip then greatest(first_moment(skipped_month, billing_timezone), moment)
            when effect_day is not null then first_moment(effect_day, billing_timezone)
            else coalesce(record_status.effect_date, moment)
        end;
        ends := case
            when is_skip then first_moment((skipped_month + interval '1 month')::date, billing_timezone)
            when until_day is not null then first_moment(until_day, billing_timezone)
            else coalesce(record_status.until, effective_from + make_interval(days => return_after_days))
        end;
        verdict := case
            when iso_moment(effective_from) is null then 'wrong_date'
            when is_skip and ends <= moment then 'month_is_past'
            when ends <= effective_from or ends is not null and iso_moment(ends) is null then 'wrong_end'
        end;
        if verdict is not null then
            return;
        end if;

        if changes_per_day is not null then
            -- Another change is possible when the entry that fills the limit, counted from the latest, is a day old.
            select least(ceil(extract(epoch from max(entry.create_date) + interval '1 day' - moment)), 86400) into retry_after
            from (
                select create_date, row_number() over latest as entries, count(*) filter (where is_change) over latest as changes
                from (
                    select id, create_date,
                        not is_automatic_return(status_id, details) and not is_correction(id) as is_change
                    from subscription_status_history entry
                    where entry.subscription_id collate "C" = record_status.subscription_id
                        and create_date > moment - interval '1 day' and create_date < moment + interval '1 day'
                ) entry
                window latest as (order by create_date desc, id)
            ) entry
            where changes >= changes_per_day or entries >= greatest(2::bigint * changes_per_day, 200)
            having count(*) > 0;
            -- A later change may have to correct every scheduled date. A change at one of these dates adds no date.
            if retry_after is null then
                select least(ceil(extract(epoch from min(scheduled.effect_date) - moment)), 86400) into retry_after
                from (
                    select distinct entry.effect_date
                    from subscription_status_history entry
                    where entry.subscription_id collate "C" = record_status.subscription_id
                        and entry.effect_date > moment and entry.effect_date < '10000-01-01'
                    order by entry.effect_date
                    limit 100
                ) scheduled
                having count(*) = 100 and exists (
                    select from unnest(array[effective_from, ends]) added_date
                    where added_date > moment and not exists (
                        select from subscription_status_history entry
                        where entry.subscription_id collate "C" = record_status.subscription_id
                            and entry.effect_date = added_date
                    )
                );
            end if;
            if retry_after is not null then
                verdict := 'too_many_changes';
                return;
            end if;
        end if;

        automatic_return := ends;
        -- After the last entry, or after an activation if it is a pause with an end, nothing else is to be considered.
        if is_skip
            or last_date > effective_from
            or ends is not null and (
                select status_id = 1 and not is_automatic_return(status_id, details)
                from subscription_status_history entry
                where entry.subscription_id collate "C" = record_status.subscription_id and entry.effect_date = last_date
                order by entry.effect_date desc, entry.create_date desc nulls last, entry.id collate "C" desc
                limit 1
            ) is not true
        then
            history := array(
                select row(
                    entry.id, entry.subscription_id, entry.status_id, entry.effect_date, entry.create_date, entry.details
                )::subscription_status_history
                from subscription_status_history entry
                where entry.subscription_id collate "C" = record_status.subscription_id and entry.effect_date is not null
                order by entry.effect_date, entry.create_date nulls first, entry.id collate "C"
            );
            if is_skip then
                timeline := status_timeline(history, effective_from);
                if not exists (
                    select from unnest(timeline) entry where entry.status_id = 1 and entry.effect_date < ends
                ) then
                    verdict := 'nothing_to_skip';
                    return;
                end if;
                -- The subscription returns if it would be ACTIVE then without this pause.
                automatic_return := case when status_at(timeline, ends) = 1 then ends end;
            end if;
            change := array(
                select row(
                    entry.id, record_status.subscription_id, entry.status_id, entry.effect_date, recorded_at, entry.details
                )::subscription_status_history
                from (values
                    (entry_id, record_status.status_id, effective_from, record_status.details),
                    (return_entry_id, 1, automatic_return, automatic_return_details())
                ) entry (id, status_id, effect_date, details)
                where entry.effect_date is not null
            );
            corrections := status_corrections(history, change, billing_timezone);
        end if;

        insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
        select entry.id, record_status.subscription_id, entry.status_id, entry.effect_date, recorded_at, entry.details
        from (values
            (entry_id, record_status.status_id, effective_from, record_status.details),
            (return_entry_id, 1, automatic_return, automatic_return_details())
        ) entry (id, status_id, effect_date, details)
        where entry.effect_date is not null
        union all
        select id, subscription_id, status_id, effect_date, create_date, details from unnest(corrections);
        verdict := 'recorded';
        perform give_up_after(seconds);
    end
    $$;
