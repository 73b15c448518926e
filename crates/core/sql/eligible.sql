-- In the order of two indexes, side by side. From the first id after $1 on, which is $1 and the smallest character.
select subscription.id
from subscription
join active_subscriptions_at(utc_now()) active on active.subscription_id collate "C" = subscription.id collate "C"
where subscription.id collate "C" >= coalesce($1 || chr(1), '')
    and active.subscription_id collate "C" >= coalesce($1 || chr(1), '')
    -- `is true` has the clubs looked up once, into a hash table, in place of a join
    and (
        subscription.club_id in (
            select club.id
            from club
            cross join lateral club_status_at(club.id, utc_now()) current
            where current.club_status_id in (1, 2)
        )
    ) is true
order by subscription.id collate "C"
limit $2
