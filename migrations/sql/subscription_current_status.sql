create view subscription_current_status as
    select subscription.id as subscription_id, subscription.club_id, subscription.customer_store_id,
        current.status_id, status.name as status, current.effect_date, current.details
    from subscription
    left join lateral (
        select * from subscription_status where subscription_id = subscription.id collate "C" limit 1
    ) current on true
    left join status on status.id = current.status_id;
comment on view subscription_current_status is
    'Every subscription with its status now; the status is null if no entry is in effect.';
