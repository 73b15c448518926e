-- The statuses of a subscription as its customer means them. Activating, cancelling and a pause without an end set the base
-- from their moment on. A pause with an end is a layer over the base: while one lasts, the status is PAUSED, but CANCELLED
-- shows through. An activation ends the layers that it finds at its moment. So does a pause with an end, unless it skips a
-- month.
--
-- Entries by hand count like those of the API. A pause and a return that were recorded at the same moment are a layer. All
-- other entries are the base, by the one definition of status.
create function intended_timeline(
    -- All entries of one subscription with an effect_date, in the order of the definition.
    history subscription_status_history[],
    billing_timezone text,
    since timestamp,
    -- The status at `since`, and each other one later; only the dates and the statuses.
    out timeline subscription_status_history[]
)
    language plpgsql stable
    as $$
    #variable_conflict use_column
    declare
        step record;
        base integer;
        -- The layers that last, in the order of recording. Each ends before those that were recorded earlier: an earlier
        -- one that ends no later makes no difference.
        recorded timestamp[] := '{}';
        ends timestamp[] := '{}';
        recorded_later timestamp[];
        ends_later timestamp[];
        place integer;
        status_id integer;
        intended integer;
    begin
        for step in
            with entry as (
                select entry.*, coalesce(entry.create_date, entry.effect_date) as recorded,
                    create_date is not null and is_automatic_return(entry.status_id, entry.details) as is_return
                from unnest(history) with ordinality
                    as entry (id, subscription_id, status_id, effect_date, create_date, details, place)
                where not is_correction(entry.id)
            ),
            paired as materialized (
                select *,
                    case when status_id = 3 then coalesce(
                        min(effect_date) filter (where is_return) over later,
                        case when is_skip(id) then first_moment(
                            (
                                date_trunc('month', effect_date at time zone 'UTC' at time zone billing_timezone)
                                + interval '1 month'
                            )::date,
                            billing_timezone
                        ) end
                    ) end as ends,
                    is_return and coalesce(min(place) filter (where status_id = 3) over same_moment < place, false)
                        as ends_layer
                from entry
                -- One sort serves both windows.
                window
                    same_moment as (partition by create_date),
                    later as (
                        partition by create_date order by place desc rows between unbounded preceding and 1 preceding
                    )
            ),
            step as (
                select greatest(effect_date, since) as moment, place, recorded, ends, not is_skip(id) as replaces,
                    false as is_base, null::integer as base
                from paired
                where ends is not null
                union all
                select greatest(effect_date, since), place, recorded, null, true, false, null
                from paired
                where status_id = 1 and not is_return
                union all
                select greatest(effect_date, since), 0, null, null, false, true, status_id
                from unnest(
                    status_timeline(
                        -- The row is built from columns, because `history[place]` searches the array from its beginning.
                        array(
                            select row(id, subscription_id, status_id, effect_date, create_date, details)
                                ::subscription_status_history
                            from paired
                            where ends is null and not ends_layer
                            order by place
                        ),
                        since
                    )
                )
                union all
                select ends, 0, null, null, false, false, null from paired where ends > since
            )
            select *, lead(moment) over (order by moment, place) is distinct from moment as last_of_moment
            from step
            order by moment, place
        loop
            if step.is_base then
                base := step.base;
            -- The end of a layer changes no layer.
            elsif step.recorded is not null then
                place := cardinality(recorded);
                while place > 0 and recorded[place] > step.recorded loop
                    place := place - 1;
                end loop;
                -- These were recorded later.
                recorded_later := recorded[place + 1:];
                ends_later := ends[place + 1:];
                if step.replaces then
                    recorded := recorded_later;
                    ends := ends_later;
                    place := 0;
                end if;
                if step.ends > since and (ends_later[1] >= step.ends) is not true then
                    while place > 0 and ends[place] <= step.ends loop
                        place := place - 1;
                    end loop;
                    recorded := recorded[:place] || step.recorded || recorded_later;
                    ends := ends[:place] || step.ends || ends_later;
                end if;
            end if;
            if step.last_of_moment then
                intended := case when base = 2 then 2 when ends[1] > step.moment then 3 else base end;
                if timeline is null or intended is distinct from status_id then
                    status_id := intended;
                    timeline := timeline
                        || row(null, null, intended, step.moment, null, null)::subscription_status_history;
                end if;
            end if;
        end loop;
    end
    $$;
