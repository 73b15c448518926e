-- The one definition of a subscription's status: its latest entry in effect that is not a void automatic return.
--
-- The entries before a return that are not returns decide about it. It is void if the latest of them is CANCELLED or was
-- recorded after the return, or if the latest that was recorded after the return is CANCELLED. An entry without a
-- create_date was recorded at its effect_date. A return without one is never void.
--
-- So whether a return is void does not depend on the moment, and one pass over the history finds the status at each
-- moment. `recorded` is a stack of the entries that can still decide: an entry removes those that were recorded no later
-- than itself. The dates fall from the bottom of the stack to the top, where the latest entry is, so a binary search
-- finds the entry that decides. n entries cost O(n log n).
create function status_timeline(
    -- Entries of one subscription: all of them up to a moment, in the order of effect_date, create_date (nulls first), id.
    history subscription_status_history[],
    since timestamp,
    -- The entry that is the status at `since`, if there is one, and each that becomes the status later.
    out timeline subscription_status_history[]
)
    language plpgsql immutable
    set search_path from current
    as $$
    declare
        entry record;
        place integer := 0;
        -- The last one of the timeline; 0 before the first.
        last integer := 0;
        recorded timestamp[];
        cancelled boolean[];
        top integer := 0;
        low integer;
        high integer;
        middle integer;
    begin
        foreach entry in array history loop
            place := place + 1;
            if not is_automatic_return(entry.status_id, entry.details) then
                while top > 0 and recorded[top] <= coalesce(entry.create_date, entry.effect_date) loop
                    top := top - 1;
                end loop;
                top := top + 1;
                recorded[top] := coalesce(entry.create_date, entry.effect_date);
                cancelled[top] := coalesce(entry.status_id = 2, false);
            elsif top > 0 and entry.create_date is not null then
                continue when cancelled[top];
                -- The highest that was recorded after the return; 0 if there is none.
                low := 0;
                high := top;
                while low < high loop
                    middle := (low + high + 1) / 2;
                    if recorded[middle] > entry.create_date then
                        low := middle;
                    else
                        high := middle - 1;
                    end if;
                end loop;
                continue when low = top or low > 0 and cancelled[low];
            end if;
            -- Of the entries up to `since`, and of those with one effect_date, the last one stays.
            if last = 0 or entry.effect_date > greatest(since, timeline[last].effect_date) then
                last := last + 1;
            end if;
            timeline[last] := history[place];
        end loop;
    end
    $$;
comment on function status_timeline(subscription_status_history[], timestamp) is
    'The entries that are a subscription''s status at a moment and at each later one (naive UTC), from its history.';
