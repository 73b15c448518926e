-- The one clock. Every decision about time asks it, so a test moves time by replacing billing_now().
create function billing_now() returns timestamptz language sql stable
    as $$ select statement_timestamp() $$;
comment on function billing_now() is 'The one clock: every decision about time asks it.';

create function utc_now() returns timestamp language sql stable
    as $$ select billing_now() at time zone 'UTC' $$;
comment on function utc_now() is 'The one clock as the approved tables write it: naive, meaning UTC.';
