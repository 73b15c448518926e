-- The months of a subscription, the newest first, each by its live attempt, else its latest one. If the
-- customer does not have the subscription, there is no row. If it has no attempt, there is one row without a month.
create function charges_of_subscription(
    subscription_id varchar,
    -- The subscription must be this customer's; anybody's, if null.
    customer_id varchar
)
    returns table (
        billing_month date,
        state text,
        request_id varchar,
        claimed_at timestamptz,
        settled_at timestamptz
    )
    language plpgsql stable
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    as $$
    #variable_conflict use_column
    begin
        return query
        select month.billing_month, month.state, month.request_id, month.claimed_at, month.settled_at
        from subscription
        left join lateral (
            select distinct on (ledger.billing_month) ledger.*
            from charge_ledger ledger
            where ledger.subscription_id = charges_of_subscription.subscription_id and not ledger.orphaned
            order by ledger.billing_month desc, ledger.live desc, ledger.claimed_at desc, ledger.id desc
        ) month on true
        where subscription.id = charges_of_subscription.subscription_id
            and (charges_of_subscription.customer_id is null or customer_store_id = charges_of_subscription.customer_id)
        order by month.billing_month desc;
    end
    $$;
