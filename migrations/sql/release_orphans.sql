-- An orphan that holds this subscription's month or this request_id gives it back.
create function release_orphans(of_subscription varchar, of_request_id varchar) returns void language plpgsql
    as $$
    begin
        update charge_attempt
        set orphaned_at = billing_now()
        where id in (
            select id from charge_ledger ledger
            where orphaned and orphaned_at is null and live
                and (subscription_id = of_subscription or request_id = of_request_id)
        );
    end
    $$;
