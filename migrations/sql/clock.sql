-- The one clock. Every decision about time asks it, so a test moves time by replacing billing_now().
create function billing_now() returns timestamptz language sql stable
    return statement_timestamp();
comment on function billing_now() is 'The one clock: every decision about time asks it.';

create function utc_now() returns timestamp language sql stable
    return billing_now() at time zone 'UTC';
comment on function utc_now() is 'The one clock as the approved tables write it: naive, meaning UTC.';

create function current_billing_month(billing_timezone text) returns date language sql stable
    security definer
    set search_path from current
    return date_trunc('month', billing_now() at time zone billing_timezone)::date;
comment on function current_billing_month(text) is 'The first day of the month that it is in this time zone.';
