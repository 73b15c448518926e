-- An orphan that holds this subscription's month or this request_id gives it back.
create function release_orphans(subscription_id varchar, request_id varchar) returns void language plpgsql
    as $$
    begin
        update charge_attempt
        set orphaned_at = billing_now()
        where id in (
            select ledger.id from charge_ledger ledger
            where orphaned and orphaned_at is null and live
                and (ledger.subscription_id = release_orphans.subscription_id or ledger.request_id = release_orphans.request_id)
        );
    end
    $$;
