-- The first moment after `moment` at which a subscription's status is another one, by the definition.
--
-- The status can only change at the date of an entry that says another one, so the definition is asked about these dates,
-- from the first on. Void returns can make thousands of dates that change nothing, one after the other. They are passed
-- over by halves: the status never goes back to an entry that took effect earlier.
create function subscription_next_status(
    of_subscription varchar,
    current_status_id integer,
    moment timestamp,
    -- After this time nobody waits for the answer.
    seconds double precision,
    -- Both null if there is no such moment.
    out status_id integer,
    out effect_date timestamp
)
    language plpgsql stable
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_indexonlyscan = off
    as $$
    #variable_conflict use_column
    declare
        dates constant timestamp[] := array(
            select distinct entry.effect_date
            from subscription_status_history entry
            where entry.subscription_id collate "C" = of_subscription
                and entry.effect_date > moment and entry.effect_date < '10000-01-01'
                and entry.status_id is distinct from current_status_id
            order by entry.effect_date
        );
        last constant integer := cardinality(dates);
        -- Until then the status stays the same.
        unchanged_until timestamp := moment;
        -- The last place whose date is known to change nothing, and the first whose date may change something.
        low integer := 0;
        high integer := last + 1;
        place integer := 1;
        found record;
    begin
        while low < last loop
            select current.status_id, current.effect_date into found
            from subscription_status_at(of_subscription, dates[place]) current;
            if coalesce(found.effect_date, '-infinity') <= unchanged_until then
                low := place;
                place := (low + high + 1) / 2;
            elsif place > low + 1 then
                high := place;
                place := (low + high + 1) / 2;
            elsif found.status_id is distinct from current_status_id then
                status_id := found.status_id;
                effect_date := dates[place];
                return;
            else
                -- Another entry with the same status took effect meanwhile.
                unchanged_until := dates[place];
                low := place;
                high := last + 1;
                place := low + 1;
            end if;
            if clock_timestamp() > statement_timestamp() + make_interval(secs => seconds) then
                raise exception 'the caller has given up' using errcode = 'query_canceled';
            end if;
        end loop;
    end
    $$;
