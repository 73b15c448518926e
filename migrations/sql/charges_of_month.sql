-- A page of a month's attempts, by subscription_id (bytes), claimed_at and id.
create function charges_of_month(
    month date,
    -- Attempts in these states, and of this subscription; any, if null.
    states text[],
    of_subscription_id varchar,
    with_orphans boolean,
    -- Attempts after this position; from the first one on, if null.
    after_subscription varchar,
    after_claimed_at timestamptz,
    after_id uuid,
    at_most integer,
    -- The page ends early, with the first attempt after its texts take more bytes than this.
    enough_bytes integer
)
    returns table (
        id uuid,
        subscription_id varchar,
        request_id varchar,
        state text,
        claimed_at timestamptz,
        settled_at timestamptz,
        upstream_status smallint,
        upstream_answer text,
        "order" text,
        late_order_at timestamptz,
        orphaned boolean,
        decided_by text,
        decided_at timestamptz,
        decided_because text
    )
    language plpgsql stable
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- A page is read in the order of its index.
    set enable_sort = off
    set enable_bitmapscan = off
    as $$
    #variable_conflict use_column
    declare
        from_subscription constant varchar := coalesce(after_subscription, of_subscription_id, '');
        -- No id is greater than 36 times the greatest character.
        to_subscription constant varchar := coalesce(of_subscription_id, repeat(chr(1114111), 36));
        bytes bigint := 0;
    begin
        for id, subscription_id, request_id, state, claimed_at, settled_at, upstream_status, upstream_answer, "order",
            late_order_at, orphaned, decided_by, decided_at, decided_because
        in
            select ledger.id, ledger.subscription_id, ledger.request_id, ledger.state, ledger.claimed_at, ledger.settled_at,
                ledger.upstream_status, ledger.upstream_answer, ledger."order", ledger.late_order_at, ledger.orphaned,
                ledger.decided_by, ledger.decided_at, ledger.decided_because
            from charge_ledger ledger
            where billing_month = month
                and (ledger.subscription_id collate "C", ledger.claimed_at, ledger.id)
                    > (
                        from_subscription,
                        coalesce(after_claimed_at, '-infinity'),
                        coalesce(after_id, '00000000-0000-0000-0000-000000000000')
                    )
                and ledger.subscription_id collate "C" <= to_subscription
                and (states is null or ledger.state = any (states))
                and (with_orphans or not ledger.orphaned)
            order by ledger.subscription_id collate "C", ledger.claimed_at, ledger.id
            limit at_most
        loop
            return next;
            exit when bytes > enough_bytes;
            bytes := bytes + octet_length(concat("order", upstream_answer, decided_because));
        end loop;
    end
    $$;
