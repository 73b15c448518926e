-- In flight, but nothing is sent any more. After a fail-over the clock may be behind the claim. A few seconds are
-- left for calls that overtake each other.
create function is_past_deadline(claimed_at timestamptz, deadline timestamptz) returns boolean language sql stable
    return deadline < billing_now() or claimed_at > billing_now() + interval '5 seconds';

create view charge_ledger as
    select id, subscription_id, billing_month, request_id, customer_id, sku_id,
        case when state = 'in_flight' and is_past_deadline(claimed_at, deadline) then 'unknown' else state end as state,
        pending, live, possibly_sent, token, claimed_at, deadline, settled_at, upstream_status, "order",
        upstream_answer, late_order_at, decided_by, decided_at, decided_because, orphaned_at,
        -- Not as EXISTS, for which a plan may read the notes of all attempts.
        coalesce((select true from orphan_note where attempt_id = attempt.id limit 1), false) as orphaned
    from charge_attempt attempt;
comment on view charge_ledger is
    'Attempts as they stand now: in flight past the deadline is unknown; orphaned when the subscription was deleted.';
