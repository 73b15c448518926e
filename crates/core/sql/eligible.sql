with served_club as materialized (
    select club.id
    from club
    cross join lateral club_status_at(club.id, utc_now()) current
    where current.club_status_id in (1, 2)
)
select subscription.id
from subscription
join served_club on served_club.id = subscription.club_id
cross join lateral subscription_status_at(subscription.id, utc_now()) current
where current.status_id = 1
    and ($1::text is null or subscription.id collate "C" > $1)
order by subscription.id collate "C"
limit $2
