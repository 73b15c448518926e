-- The entries of one subscription with an effect_date, in the order of the definition of status.
create function in_status_order(entries subscription_status_history[]) returns subscription_status_history[]
    language sql immutable
    return array(
        select entry from unnest(entries) entry
        where entry.effect_date is not null
        order by entry.effect_date, entry.create_date nulls first, entry.id collate "C"
    );

create function status_at(timeline subscription_status_history[], moment timestamp) returns integer language sql immutable
    return (select status_id from unnest(timeline) where effect_date <= moment order by effect_date desc limit 1);

-- The entries that a change needs in addition to its own, so that the definition of status says what the customer means. Where
-- entries by hand say something else already, they do so afterwards, too.
create function status_corrections(
    history subscription_status_history[],
    -- The rows of the change: its entry, and the automatic return.
    change subscription_status_history[],
    billing_timezone text
) returns subscription_status_history[]
    language plpgsql stable
    as $$
    declare
        since constant timestamp := change[1].effect_date;
        recorded_at constant timestamp := change[1].create_date;
        changed subscription_status_history[];
        corrections subscription_status_history[] := '{}';
        before integer := -1;
        point record;
        actual integer;
        wanted integer;
        wanted_timeline subscription_status_history[];
        added integer;
        -- The status of the last correction, if it decides about the next return.
        corrected integer;
        -- Another correction of this round cancels.
        cancelled boolean;
        -- The timelines before the change, and the place of a point in each.
        old_actual subscription_status_history[];
        old_wanted subscription_status_history[];
        in_old_actual integer;
        in_old_wanted integer;
    begin
        -- A pause after an activation, if nothing comes later, is what the customer means.
        if history[cardinality(history)].effect_date <= since
            and history[cardinality(history)].status_id = 1
            and (status_timeline(history, since))[1].status_id = 1
        then
            return corrections;
        end if;
        changed := in_status_order(history || change);
        wanted_timeline := intended_timeline(changed, billing_timezone, since);
        -- A correction can make a return void, or one of the change valid. Another round sees it.
        while cardinality(corrections) > before loop
            if before >= 0 then
                changed := in_status_order(changed || corrections[before + 1:]);
            end if;
            before := cardinality(corrections);
            actual := null;
            wanted := null;
            corrected := null;
            cancelled := false;
            in_old_actual := 0;
            in_old_wanted := 0;
            for point in
                select effect_date, actual.status_id as actual, actual.known as is_actual, actual.is_return,
                    actual.create_date, wanted.status_id as wanted, wanted.known as is_wanted,
                    correction.known as is_corrected
                from (
                    select greatest(effect_date, since) as effect_date, status_id, create_date, true as known,
                        is_automatic_return(status_id, details) as is_return
                    from unnest(status_timeline(changed, since))
                ) actual
                full join (select effect_date, status_id, true as known from unnest(wanted_timeline)) wanted
                    using (effect_date)
                left join (select distinct effect_date, true as known from unnest(corrections)) correction
                    using (effect_date)
                order by effect_date
            loop
                if point.is_actual then
                    if point.is_return and corrected is not null then
                        -- It is void: the correction cancels, or was recorded later. One without a date is never void.
                        point.is_actual := point.create_date is null
                            or corrected <> 2 and point.create_date >= recorded_at;
                    elsif point.is_return and cancelled then
                        exit;
                    else
                        corrected := null;
                    end if;
                end if;
                if point.is_actual then
                    actual := point.actual;
                end if;
                if point.is_wanted then
                    wanted := point.wanted;
                end if;
                continue when wanted is null or actual is not distinct from wanted or point.is_corrected;
                old_actual := coalesce(old_actual, status_timeline(history, since));
                old_wanted := coalesce(old_wanted, intended_timeline(history, billing_timezone, since));
                while old_actual[in_old_actual + 1].effect_date <= point.effect_date loop
                    in_old_actual := in_old_actual + 1;
                end loop;
                while old_wanted[in_old_wanted + 1].effect_date <= point.effect_date loop
                    in_old_wanted := in_old_wanted + 1;
                end loop;
                continue when old_actual[in_old_actual].status_id is distinct from old_wanted[in_old_wanted].status_id;
                -- A return is void after a cancellation, so a pause comes between them.
                foreach added in array case when wanted = 1 and actual = 2 then array[3, 1] else array[wanted] end loop
                    corrections := corrections || row(
                        status_entry_id(change[1].id, is_skip(change[1].id), cardinality(corrections) + 2),
                        change[1].subscription_id, added, point.effect_date, recorded_at,
                        case when added = 1 then automatic_return_details() end
                    )::subscription_status_history;
                    if added <> 1 then
                        corrected := added;
                        cancelled := cancelled or added = 2;
                    end if;
                end loop;
                actual := wanted;
            end loop;
        end loop;
        return corrections;
    end
    $$;
