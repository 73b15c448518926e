-- The one definition of a subscription's status: its latest entry in effect that is not a void automatic return.
--
-- An automatic return is void if it was recorded before something that overtook its pause. Take the entries that are not
-- automatic returns, from the latest in effect down. The first of them that was recorded after the return decides: the
-- return is void if that entry is the latest of all, or a cancellation. So each such entry makes the returns void that
-- were recorded in one span of time: from the last record among the entries above it until its own. One look at these
-- spans answers for every return, and the cost grows in step with the number of entries.
--
-- Plain SQL, so that it is inlined into the statements that use it. The comparison is by bytes, as the index is.
create function subscription_statuses_at(of_subscriptions varchar[], moment timestamp)
    returns table (
        subscription_id varchar, entry_id varchar, status_id integer, effect_date timestamp, details varchar
    )
    language sql stable
    as $$
        select distinct on (subscription_id) subscription_id, id, status_id, effect_date, details
        from (
            select *,
                range_agg(tsrange(last_record_above, recorded)) filter (
                    where not is_return
                        and (last_record_above is null or status_id = 2 and last_record_above < recorded)
                ) over (partition by subscription_id) as void_if_recorded_in
            from (
                select *,
                    max(recorded) filter (where not is_return) over entries_above as last_record_above,
                    count(*) over entries_above as place
                from (
                    select subscription_id collate "C" as subscription_id, id, status_id, effect_date, details, create_date,
                        coalesce(create_date, effect_date) as recorded,
                        is_automatic_return(status_id, details) as is_return
                    from subscription_status_history
                    where subscription_id collate "C" = any (of_subscriptions) and effect_date <= moment
                ) entry
                window entries_above as (
                    partition by subscription_id
                    order by effect_date desc, create_date desc nulls last, id collate "C" desc
                    rows between unbounded preceding and 1 preceding
                )
            ) entry
        ) entry
        where (is_return and create_date <@ void_if_recorded_in) is not true
        order by subscription_id, place
    $$;
comment on function subscription_statuses_at(varchar[], timestamp) is
    'The entries that are these subscriptions'' statuses at a moment (naive UTC); no row for one without an entry in effect.';

-- Nearly always the latest entry in effect tells: it is void only if it is an automatic return, and only if something was
-- recorded later than it. Otherwise the definition above is asked.
--
-- Without enable_sort the latest entry is read from the end of the index, however long the history is. The definition
-- must sort all the same, and looks so dear then that JIT would compile it.
create function subscription_status_at(
    of_subscription varchar,
    moment timestamp,
    -- All null if no entry is in effect.
    out entry_id varchar,
    out status_id integer,
    out effect_date timestamp,
    out details varchar,
    -- Whether an entry takes effect after the moment.
    out scheduled boolean
)
    language plpgsql stable
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_indexonlyscan = off
    set enable_sort = off
    set jit = off
    as $$
    #variable_conflict use_column
    declare
        recorded timestamp;
        is_return boolean;
        until timestamp := 'infinity';
    begin
        scheduled := false;
        -- Usually nothing is scheduled, and the last entry of all is the latest in effect.
        loop
            select id, status_id, effect_date, details, create_date, is_automatic_return(status_id, details)
            into entry_id, status_id, effect_date, details, recorded, is_return
            from subscription_status_history
            where subscription_id collate "C" = of_subscription and effect_date <= until
            order by effect_date desc, create_date desc nulls last, id collate "C" desc
            limit 1;
            exit when (subscription_status_at.effect_date > moment) is not true;
            scheduled := true;
            until := moment;
        end loop;
        if is_return is not true then
            return;
        end if;
        -- Two questions, because an index answers each.
        if exists (
            select from subscription_status_history
            where subscription_id collate "C" = of_subscription and effect_date <= moment
                and create_date > recorded
                and not is_automatic_return(status_id, details)
        ) or exists (
            select from subscription_status_history
            where subscription_id collate "C" = of_subscription and effect_date <= moment
                and create_date is null and effect_date > recorded
                and not is_automatic_return(status_id, details)
        ) then
            select current.entry_id, current.status_id, current.effect_date, current.details
            into entry_id, status_id, effect_date, details
            from subscription_statuses_at(array[of_subscription], moment) current;
        end if;
    end
    $$;
comment on function subscription_status_at(varchar, timestamp) is
    'The entry that is a subscription''s status at a moment (naive UTC); nulls if none is in effect.';
