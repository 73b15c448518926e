-- Locks the attempts of this attempt's month, always in one order. Of two calls that settle at the same time, the second sees
-- what the first has done.
create function lock_month(attempt_id uuid) returns void language plpgsql
    as $$
    begin
        perform
        from charge_attempt attempt
        where (subscription_id collate "C", billing_month) = (
            select named.subscription_id, named.billing_month from charge_attempt named where named.id = attempt_id
        )
        -- As text, for which no index has an order. By the one of the ids, a plan may read all attempts in order.
        order by id::text
        for no key update;
    end
    $$;
