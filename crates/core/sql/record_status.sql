-- Both rows or none. Sent again after a lost answer it finds the rows that it wrote, and changes nothing.
with entry as (
    select
        subscription.id as subscription_id,
        coalesce($3, moment.now) as effect_date,
        moment.now as create_date
    from subscription, (select utc_now() as now) moment
    where subscription.id = $1
),
recorded as (
    insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
    select $6, subscription_id, $2, effect_date, create_date, $4
    from entry
    union all
    select
        $7, subscription_id, 1, effect_date + make_interval(days => $5), create_date, 'Automatic return schedule'
    from entry
    where $5 is not null
    on conflict (id) do update set id = excluded.id
    returning id, effect_date
)
select
    (select effect_date from recorded where id = $6) as effect_date,
    (select effect_date from recorded where id = $7) as automatic_return
