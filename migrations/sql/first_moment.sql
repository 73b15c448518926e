-- The first moment of a day in a time zone. A day may have no midnight, or two; a day that a zone left out begins with the
-- next one. The conversion is that of current_billing_month(), so both agree at which moment a month begins.
create function first_moment(day date, billing_timezone text) returns timestamp language plpgsql stable
    as $$
    declare
        -- No zone is 16 hours away from UTC.
        before timestamp := day - interval '16 hours';
        at_or_after timestamp := day + interval '16 hours';
        middle timestamp;
        midnight timestamp;
    begin
        while at_or_after - before > interval '1 second' loop
            middle := date_trunc('second', before + (at_or_after - before) / 2);
            if (middle at time zone 'UTC' at time zone billing_timezone)::date < day then
                before := middle;
            else
                at_or_after := middle;
            end if;
        end loop;
        -- Clocks that go back across midnight end the day before twice. The first time counts.
        midnight := day - (
            (before - interval '3 hours') at time zone 'UTC' at time zone billing_timezone - (before - interval '3 hours')
        );
        if midnight < at_or_after and midnight at time zone 'UTC' at time zone billing_timezone = day then
            return midnight;
        end if;
        return at_or_after;
    end
    $$;
comment on function first_moment(date, text) is 'The first moment of a day in this time zone, as naive UTC.';
