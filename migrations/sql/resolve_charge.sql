-- Records what a person found out about an attempt that only a person can know about.
create function resolve_charge(attempt_id uuid, state text, because text, who text default session_user)
    returns charge_attempt
    language plpgsql
    security definer
    set search_path from current
    as $$
    declare
        resolved charge_attempt;
    begin
        if state is null or state not in ('charged', 'rejected', 'not_sent') then
            raise exception 'the state must be charged, rejected or not_sent' using errcode = 'check_violation';
        end if;
        if coalesce(trim(because), '') = '' or coalesce(trim(who), '') = '' then
            raise exception 'say who decides, and why' using errcode = 'check_violation';
        end if;
        perform lock_month(attempt_id);
        -- The new token shuts out the call that still holds the attempt.
        update charge_attempt attempt
        set state = resolve_charge.state,
            token = gen_random_uuid(),
            settled_at = billing_now(),
            decided_by = who,
            decided_at = billing_now(),
            decided_because = because
        where id = attempt_id
            and (attempt.state = 'unknown' or attempt.state = 'in_flight' and is_past_deadline(claimed_at, deadline))
        returning * into resolved;
        if not found then
            raise exception 'charge attempt % is neither unknown nor in flight past its deadline', attempt_id
                using errcode = 'check_violation';
        end if;
        perform hold_by_late_order(resolved);
        return resolved;
    end
    $$;
comment on function resolve_charge(uuid, text, text, text) is
    'Records what a person found out: charged, rejected or not_sent; why; and who, if not the session''s user.';
