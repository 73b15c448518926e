-- The number of subscriptions by the state of their month: that of the live attempt, else of the latest one.
create function count_charges(
    month date,
    out charged bigint,
    out in_flight bigint,
    out unknown bigint,
    out rejected bigint,
    out not_sent bigint
)
    language plpgsql stable
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- Planned on a few rows, a nested loop looks for the note of each attempt.
    set enable_nestloop = off
    as $$
    begin
        select
            count(*) filter (where state = 'charged'),
            count(*) filter (where state = 'in_flight'),
            count(*) filter (where state = 'unknown'),
            count(*) filter (where state = 'rejected'),
            count(*) filter (where state = 'not_sent')
        into charged, in_flight, unknown, rejected, not_sent
        from (
            -- A subscription has one live attempt of a month at most.
            select
                case
                    when state = 'in_flight' and is_past_deadline(claimed_at, deadline) then 'unknown' else state
                end as state
            from charge_attempt attempt
            where billing_month = month and live
                and not exists (select from orphan_note where attempt_id = attempt.id)
            union all
            select state
            from (
                select distinct on (subscription_id collate "C") state
                from charge_attempt attempt
                where billing_month = month and not live
                    and not exists (select from orphan_note where attempt_id = attempt.id)
                    -- In an expression, it is looked up for each of the few attempts that have ended so.
                    and coalesce(
                        (
                            select false
                            from charge_ledger held
                            where held.billing_month = month and held.live and not held.orphaned
                                and held.subscription_id collate "C" = attempt.subscription_id
                            limit 1
                        ),
                        true
                    )
                order by subscription_id collate "C", claimed_at desc, id desc
            ) ended
        ) standing;
    end
    $$;
