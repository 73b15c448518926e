-- Under the lock of this club and customer, so that what it reads is what it decides upon.
with found_club as (
    select club.id, coalesce(current.club_status_id = 1, false) as active
    from club
    left join lateral club_status_at(club.id, utc_now()) current on true
    where club.id = $1
),
existing as (
    select id, create_date
    from subscription
    where club_id = $1 and customer_store_id = $2
    order by id = $3 desc
    limit 1
),
created as (
    insert into subscription (id, club_id, customer_store_id, create_date)
    select $3, id, $2, utc_now()
    from found_club
    where active and not exists (select from existing)
    on conflict (id) do nothing
    returning id, create_date
),
activated as (
    insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
    select $4, id, 1, create_date, create_date
    from created
)
select
    exists (select from found_club) as "club_found!",
    exists (select from found_club where active) as "club_active!",
    -- Our own row is there already when the answer to an earlier commit was lost.
    coalesce(
        (select create_date from created),
        (select create_date from existing where id = $3)
    ) as create_date
