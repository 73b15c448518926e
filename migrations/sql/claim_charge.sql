-- Decides what a call may do, and claims the month's attempt if it may charge. docs/charging.md explains the protocol.
--
-- It looks without a lock first, so a replay or a refusal writes nothing. To open or take over an attempt it locks the
-- subscription's row and looks again: each statement sees what was committed before it.
create function claim_charge(
    subscription_id varchar,
    request_id varchar,
    -- The caller's ids, so that a claim whose answer was lost is recognized.
    attempt_id uuid,
    token uuid,
    billing_timezone text,
    -- The attempt's deadline, in seconds from now.
    deadline double precision,
    -- False if there is too little time to call out.
    may_call_out boolean,
    -- The first day of the month that the caller means; any month, if null.
    expected_month date,
    -- After this time nobody waits for the answer.
    seconds double precision,
    out verdict text,
    -- The month's live attempt: the one that was claimed, or the one that decided the verdict.
    out live_attempt_id uuid,
    out live_request_id varchar,
    -- The call's month. Null if the request_id is only another subscription's.
    out billing_month date,
    -- The order's customer and sku: the live attempt's, else the subscription's.
    out customer_id varchar,
    out sku_id integer,
    out charged_at timestamptz,
    out "order" text,
    out retry_after integer
)
    language plpgsql
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    as $$
    #variable_conflict use_column
    declare
        moment constant timestamptz := billing_now();
        this_month constant date := current_billing_month(billing_timezone);
        facts record;
        locked boolean := false;
    begin
        perform require_read_committed();
        -- Look, lock, look again, write, see what was written. An orphan or a race takes two more rounds. The sixth is a
        -- safety net.
        for round in 1..6 loop
            select
                subject.id, subject.in_service,
                used.*,
                coalesce(used.own_month, this_month) as month,
                live.id as live_id, live.request_id as live_request_id, live.state, live.token,
                live.settled_at, live.deadline, live."order",
                -- A repeat sends what was sent before, even if the subscription or its club has changed.
                coalesce(live.customer_id, subject.customer_id) as customer_id, coalesce(live.sku_id, subject.sku_id) as sku_id
            into facts
            from (
                -- The months that this request_id was used for; it belongs to one subscription and month.
                select
                    min(billing_month) filter (where ledger.subscription_id = claim_charge.subscription_id) as own_month,
                    bool_or(live and ledger.subscription_id = claim_charge.subscription_id) as own_live,
                    bool_or(ledger.subscription_id <> claim_charge.subscription_id) as by_another
                from charge_ledger ledger
                where ledger.request_id = claim_charge.request_id and not orphaned
            ) used
            left join (
                select
                    subscription.id,
                    nullif(subscription.customer_store_id, '') as customer_id,
                    club.store_sku as sku_id,
                    -- Without any entry, a subscription or a club counts as in service.
                    coalesce(
                        (
                            select current.status_id = 1 from subscription_status current
                            where current.subscription_id = subscription.id collate "C"
                            limit 1
                        ),
                        not exists (
                            select from subscription_status_history entry where entry.subscription_id = subscription.id
                        )
                    )
                    and coalesce(
                        (
                            select current.club_status_id in (1, 2) from club_latest_status current
                            where current.club_id = subscription.club_id
                            limit 1
                        ),
                        not exists (select from club_status_history entry where entry.club_id = subscription.club_id)
                    ) as in_service
                from subscription
                left join club on club.id = subscription.club_id
                where subscription.id = claim_charge.subscription_id
            ) subject on true
            left join charge_ledger live
                -- In the order of the indexes that have the month. With a part of one, a plan may read all of the month.
                on live.subscription_id = claim_charge.subscription_id collate "C"
                and live.billing_month = coalesce(used.own_month, this_month)
                and live.live and live.orphaned_at is null and not live.orphaned;

            -- The first line that fits decides, in the order of the contract.
            verdict := case
                when facts.id is null then 'subscription_not_found'
                when facts.month <> expected_month then 'month_mismatch'
                when facts.by_another and facts.own_live is not true then 'request_id_reused'
                when facts.month < this_month and facts.own_live is not true then 'request_id_reused'
                -- A repeat across midnight is answered. A request_id that is used every month is refused.
                when facts.month < this_month and facts.state = 'charged' and expected_month is null
                    and facts.settled_at < moment - interval '1 day' then 'request_id_reused'
                when facts.state = 'charged' then 'already_charged'
                when facts.state = 'in_flight' and facts.token = claim_charge.token then 'claimed'
                when facts.state = 'in_flight' then 'in_progress'
                when facts.live_request_id <> claim_charge.request_id then 'outcome_unknown'
                when facts.live_id is not null and not facts.in_service then 'undecidable'
                when facts.live_id is null
                    and (not facts.in_service or facts.customer_id is null or facts.sku_id is null) then 'not_chargeable'
                when not may_call_out then 'no_time'
                when facts.live_id is not null then 'take_over'
                else 'open'
            end;
            exit when verdict not in ('open', 'take_over');

            if not locked then
                perform from subscription where id = claim_charge.subscription_id for no key update;
                locked := true;
            elsif verdict = 'take_over' then
                -- Tests the row that it updates: of two that saw it unknown, the second finds it in flight.
                update charge_attempt attempt
                set state = 'in_flight',
                    possibly_sent = true,
                    token = claim_charge.token,
                    claimed_at = least(claimed_at, moment),
                    deadline = moment + make_interval(secs => claim_charge.deadline),
                    settled_at = null
                where id = facts.live_id
                    and (attempt.state = 'unknown' or attempt.state = 'in_flight' and is_past_deadline(claimed_at, deadline));
            else
                insert into charge_attempt (
                    id, subscription_id, billing_month, request_id, customer_id, sku_id,
                    state, token, claimed_at, deadline
                )
                values (
                    claim_charge.attempt_id, claim_charge.subscription_id, facts.month, claim_charge.request_id,
                    facts.customer_id, facts.sku_id,
                    'in_flight', claim_charge.token, moment, moment + make_interval(secs => claim_charge.deadline)
                )
                on conflict do nothing;
                if not found then
                    -- An orphan may hold the month or the request_id. Otherwise another call was quicker.
                    perform release_orphans(claim_charge.subscription_id, claim_charge.request_id);
                end if;
            end if;
        end loop;

        if locked then
            perform give_up_after(seconds);
        end if;
        if verdict in ('open', 'take_over') then
            verdict := 'in_progress';
        end if;
        live_attempt_id := facts.live_id;
        live_request_id := facts.live_request_id;
        billing_month := case verdict when 'request_id_reused' then facts.own_month else facts.month end;
        customer_id := facts.customer_id;
        sku_id := facts.sku_id;
        charged_at := facts.settled_at;
        "order" := facts."order";
        retry_after := greatest(round(extract(epoch from facts.deadline - moment)), 1);
    end
    $$;
