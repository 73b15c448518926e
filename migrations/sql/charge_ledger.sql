create view charge_ledger as
    select id, subscription_id, billing_month, request_id, customer_store_id, store_sku,
        case when state = 'in_flight' and deadline < billing_now() then 'unknown' else state end as state,
        pending, live, possibly_sent, token, claimed_at, deadline, settled_at, upstream_status, platform_order,
        late_order_at, decided_by, decided_at, decided_because, orphaned_at,
        orphaned_at is not null
            or exists (
                select from subscription_deletion deletion
                where deletion.subscription_id = attempt.subscription_id and deletion.id > attempt.last_deletion
            )
            or exists (
                select from subscription_deletion deletion
                where deletion.subscription_id is null and deletion.id > attempt.last_deletion
            ) as orphaned
    from charge_attempt attempt;
comment on view charge_ledger is
    'Attempts as they stand now: in flight past the deadline is unknown; orphaned when the subscription was deleted.';
