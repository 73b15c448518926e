-- $SUBSCRIPTIONS subscriptions with the histories of three years, rows in the order in which they would have been written.
-- Of the clubs, 8 of 10 are ACTIVE, 1 is CLOSED and 1 INACTIVE.
select setseed(0.5);
create temporary table clock as select now() at time zone 'UTC' as now;
insert into club (name, store_sku) select 'Club ' || n, 4000 + n from generate_series(1, $CLUBS) n;
insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)
select gen_random_uuid()::text, id, 1, now - interval '4 years', now - interval '4 years' from club, clock
union all
select gen_random_uuid()::text, id, case when id % 10 = 0 then 3 else 2 end, now - interval '30 days', now - interval '40 days'
from club, clock where id % 5 = 0;

create temporary table person as
select
    gen_random_uuid()::text as id,
    gen_random_uuid()::text as customer,
    1 + floor(random() * $CLUBS)::integer as club,
    now - interval '10 days' - random() * interval '3 years' as since,
    random() as kind,
    1 + floor(random() * 60)::integer as days
from generate_series(1, $SUBSCRIPTIONS), clock;
insert into subscription (id, club_id, customer_store_id, create_date)
select id, club, customer, since from person order by since;

-- A share of the subscriptions, and their entries: (status, when it takes effect as a part of the time since, whether it
-- is the automatic return of a pause then, details). What is beyond 1 is scheduled.
insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
select
    gen_random_uuid()::text,
    person.id,
    entry.status,
    since + (now - since) * part + case when returns then make_interval(days => days) else interval '0' end,
    since + (now - since) * least(part, 0.99),
    case when returns then 'Automatic return schedule' else details end
from clock, person
join (values
    (0.00, 0.25, 1, 0.00, false, null), (0.00, 0.25, 1, 0.10, false, 'new address'),
    (0.25, 0.50, 1, 0.00, false, null), (0.25, 0.50, 3, 0.60, false, 'on holiday'), (0.25, 0.50, 1, 0.60, true, null),
    (0.50, 0.65, 1, 0.00, false, null), (0.50, 0.65, 2, 0.70, false, 'moved away'),
    (0.65, 0.77, 1, 0.00, false, null), (0.65, 0.77, 3, 0.30, false, null), (0.65, 0.77, 1, 0.30, true, null),
        (0.65, 0.77, 3, 0.80, false, 'on holiday'), (0.65, 0.77, 1, 0.80, true, null),
    (0.77, 0.82, 1, 0.00, false, null), (0.77, 0.82, 3, 0.80, false, null), (0.77, 0.82, 1, 0.80, true, null),
        (0.77, 0.82, 2, 0.801, false, null),
    (0.82, 0.92, 1, 0.00, false, null), (0.82, 0.92, 2, 0.30, false, 'too much'), (0.82, 0.92, 1, 0.50, false, null),
    (0.92, 1.00, 1, 0.00, false, null), (0.92, 1.00, 3, 0.20, false, null), (0.92, 1.00, 1, 0.20, true, null),
        (0.92, 1.00, 2, 0.50, false, null), (0.92, 1.00, 1, 0.70, false, 'again'), (0.92, 1.00, 3, 1.10, false, 'abroad')
) entry (kind_from, kind_to, status, part, returns, details) on kind >= kind_from and kind < kind_to
order by 5;
