-- In the order of two indexes, side by side. From the first id after $1 on, which is $1 and the smallest character.
select subscription.id
from subscription
join active_subscriptions_at(utc_now()) active on active.subscription_id collate "C" = subscription.id collate "C"
where subscription.id collate "C" >= coalesce($1 || chr(1), '')
    and active.subscription_id collate "C" >= coalesce($1 || chr(1), '')
    -- as an array, which is asked for once, and not as a join
    and subscription.club_id = any (array(
        select club.id
        from club
        cross join lateral club_status_at(club.id, utc_now()) current
        where current.club_status_id in (1, 2)
    ))
order by subscription.id collate "C"
limit $2
