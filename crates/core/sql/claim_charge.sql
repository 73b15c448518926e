-- Decides what this call may do, and claims the month if it may charge. See docs/charging.md.
with clock as (
    select
        billing_now() as now,
        date_trunc('month', billing_now() at time zone $5)::date as current_month
),
-- Locked, so that its deletion waits until the claim is there to be detached. Not waited for: what was committed in the
-- meantime, a cancellation say, this statement's snapshot would not see.
subject as (
    select
        subscription.id,
        nullif(subscription.customer_store_id, '') as customer_store_id,
        club.store_sku,
        coalesce(
            case
                when current.entry_id is not null then current.status_id = 1
                else not exists (
                    select from subscription_status_history where subscription_id = subscription.id
                )
            end
            and case
                when current_club.entry_id is not null then current_club.club_status_id in (1, 2)
                else not exists (select from club_status_history where club_id = subscription.club_id)
            end,
            false
        ) as in_service
    from subscription
    left join club on club.id = subscription.club_id
    left join lateral subscription_status_at(subscription.id, utc_now()) current on true
    left join lateral club_status_at(subscription.club_id, utc_now()) current_club on true
    where subscription.id = $1
    for key share of subscription nowait
),
-- What this request_id was used for; it belongs to that subscription and month.
used as (
    select subscription_id, billing_month, state in ('in_flight', 'unknown', 'charged') as live
    from charge_ledger
    where request_id = $2 and not detached
),
month as (
    select
        coalesce((select min(billing_month) from used where subscription_id = $1), current_month) as billing_month,
        current_month
    from clock
),
live as (
    select ledger.*
    from month, charge_ledger ledger
    where ledger.subscription_id = $1
        and ledger.billing_month = month.billing_month
        and ledger.state in ('in_flight', 'unknown', 'charged')
        and not ledger.detached
),
decision as (
    select
        case
            when not exists (select from subject) then 'subscription_not_found'
            when exists (select from used where subscription_id <> $1)
                and not exists (select from used where subscription_id = $1 and live) then 'request_id_reused'
            when exists (select from used) and not exists (select from used where live)
                and month.billing_month < month.current_month then 'request_id_reused'
            when live.standing = 'charged' then 'already_charged'
            -- The answer to this very claim was lost.
            when live.state = 'in_flight' and live.token = $4 then 'claimed'
            when live.standing = 'in_flight' then 'in_progress'
            when live.request_id <> $2 then 'outcome_unknown'
            when live.id is not null and not (select in_service from subject) then 'stuck'
            when live.id is null and not exists (
                select from subject
                where in_service and customer_store_id is not null and store_sku is not null
            ) then 'not_chargeable'
            when not $7 then 'no_time'
            when live.id is not null then 'take_over'
            else 'open'
        end as verdict,
        month.billing_month
    from month
    left join live on true
),
opened as (
    insert into charge_attempt (
        id, subscription_id, billing_month, request_id, customer_store_id, store_sku,
        state, token, claimed_at, deadline, last_detachment
    )
    select
        $3, subject.id, decision.billing_month, $2, subject.customer_store_id, subject.store_sku,
        'in_flight', $4, clock.now, clock.now + make_interval(secs => $6),
        coalesce((select max(id) from charge_detachment), 0)
    from decision, subject, clock
    where decision.verdict = 'open'
    on conflict do nothing
    returning *
),
-- Tests the row that it updates: of two that saw it unknown, the second finds it in flight.
taken_over as (
    update charge_attempt attempt
    set state = 'in_flight',
        possibly_sent = true,
        token = $4,
        deadline = clock.now + make_interval(secs => $6),
        settled_at = null
    from decision, live, clock
    where decision.verdict = 'take_over'
        and attempt.id = live.id
        and (attempt.state = 'unknown' or attempt.state = 'in_flight' and attempt.deadline < clock.now)
    returning attempt.*
),
claimed as (
    select id, customer_store_id, store_sku from opened
    union all
    select id, customer_store_id, store_sku from taken_over
    union all
    select live.id, live.customer_store_id, live.store_sku from live, decision where decision.verdict = 'claimed'
)
select
    case
        when claimed.id is not null then 'claimed'
        -- Another call was quicker, or what stands in the way belongs to a subscription that has gone.
        when decision.verdict in ('open', 'take_over') then 'undecided'
        else decision.verdict
    end as "verdict!",
    decision.billing_month as "billing_month!",
    claimed.id as "attempt_id?",
    claimed.customer_store_id as "customer_store_id?",
    claimed.store_sku as "store_sku?",
    live.request_id as "live_request_id?",
    live.settled_at as "settled_at?",
    live.platform_order as "platform_order?",
    ceil(extract(epoch from live.deadline - clock.now))::bigint as "seconds_to_deadline?"
from clock
cross join decision
left join live on true
left join claimed on true
