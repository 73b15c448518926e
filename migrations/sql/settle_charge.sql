-- Records what became of an attempt's order, and answers how the attempt stands then.
create function settle_charge(
    attempt_id uuid,
    token uuid,
    -- In: by the platform's answer, charged, rejected, not_sent or unknown. Out: as the attempt stands now.
    inout state text,
    upstream_status smallint,
    -- The platform's answer to an accepted order. Out: the one that is recorded.
    inout "order" text,
    -- The platform's answer to a refused order.
    upstream_answer text,
    -- True if this call brought it to that state.
    out own boolean,
    out billing_month date,
    out charged_at timestamptz,
    out orphaned boolean
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
        settled charge_attempt;
    begin
        perform lock_month(attempt_id);
        if state = 'charged' then
            -- Money has moved, so this is recorded whichever call holds the attempt, even if a person has decided otherwise.
            begin
                update charge_attempt attempt
                set state = 'charged',
                    token = case when attempt.state = 'charged' then attempt.token else settle_charge.token end,
                    settled_at = case when attempt.state = 'charged' then settled_at else moment end,
                    upstream_status = case
                        when attempt.state = 'charged' then attempt.upstream_status else settle_charge.upstream_status
                    end,
                    upstream_answer = null,
                    "order" = coalesce(attempt."order", settle_charge."order")
                where id = attempt_id
                returning * into settled;
            exception
                -- After the decision, another attempt took the month or the request_id.
                when unique_violation then
                    update charge_attempt attempt
                    set late_order_at = coalesce(late_order_at, moment),
                        upstream_status = settle_charge.upstream_status,
                        "order" = coalesce(attempt."order", settle_charge."order")
                    where id = attempt_id
                    returning * into settled;
            end;
        else
            -- Only the call that holds the attempt may say so. It knows nothing about an earlier sending, so that one stays
            -- unknown; so does an attempt that is past its deadline.
            update charge_attempt attempt
            set state = case
                    when settle_charge.state in ('rejected', 'not_sent')
                        and (possibly_sent or is_past_deadline(claimed_at, deadline))
                        then 'unknown'
                    else settle_charge.state
                end,
                settled_at = moment,
                upstream_status = settle_charge.upstream_status,
                upstream_answer = settle_charge.upstream_answer
            where id = attempt_id and attempt.state = 'in_flight' and attempt.token = settle_charge.token
            returning * into settled;
            if found then
                perform hold_by_late_order(settled);
            else
                select * into settled from charge_attempt where id = attempt_id;
            end if;
        end if;

        state := settled.state;
        own := settled.token = settle_charge.token;
        billing_month := settled.billing_month;
        charged_at := settled.settled_at;
        "order" := settled."order";
        orphaned := (select ledger.orphaned from charge_ledger ledger where id = attempt_id);
    end
    $$;
