-- An acceptance is recorded whoever holds the attempt: money has moved. Every other outcome is fenced by the token, and
-- says nothing about an earlier sending, nor about an attempt that was called unknown since its deadline.
with settled as (
    update charge_attempt
    set state = case
            when state not in ('in_flight', 'unknown') then state
            when $3 in ('rejected', 'not_sent') and (possibly_sent or deadline < billing_now()) then 'unknown'
            else $3
        end,
        token = case when state in ('in_flight', 'unknown') then $2 else token end,
        settled_at = case when state in ('in_flight', 'unknown') then billing_now() else settled_at end,
        late_order_at = case when state in ('rejected', 'not_sent') then billing_now() else late_order_at end,
        upstream_status = case when state = 'charged' then upstream_status else $4 end,
        platform_order = coalesce(platform_order, $5)
    where id = $1
        and ($3 = 'charged' or state = 'in_flight' and token = $2)
    returning id, state, token, billing_month, settled_at, platform_order, request_id
)
select
    now.state as "state!",
    now.token = $2 as "own!",
    now.billing_month as "billing_month!",
    now.settled_at,
    now.platform_order,
    (select detached from charge_ledger where id = $1) as "detached!"
from (
    select * from settled
    union all
    select id, state, token, billing_month, settled_at, platform_order, request_id
    from charge_attempt
    where id = $1 and not exists (select from settled)
) now
