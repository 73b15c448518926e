-- Locks the attempts of this attempt's month, always in one order. Of two calls that settle at the same time, the second sees
-- what the first has done.
create function lock_month(attempt_id uuid) returns void language plpgsql
    as $$
    begin
        perform
        from charge_attempt attempt
        where (subscription_id, billing_month) = (
            select named.subscription_id, named.billing_month from charge_attempt named where named.id = attempt_id
        )
        order by id
        for no key update;
    end
    $$;
