-- Records a charge that the platform has and the ledger does not: after a restore, say. It can be repeated.
create function record_charge(
    subscription_id varchar,
    -- 2026-11
    month text,
    request_id varchar,
    who text default session_user
)
    returns charge_attempt
    language plpgsql
    security definer
    set search_path from current
    set lock_timeout = '5s'
    as $$
    #variable_conflict use_column
    declare
        moment constant timestamptz := billing_now();
        subject record;
        attempt charge_attempt;
        recorded charge_attempt;
    begin
        perform require_read_committed();
        if month is null or month !~ '^\d{4}-(0[1-9]|1[0-2])$' then
            raise exception 'the month must be like 2026-11' using errcode = 'check_violation';
        end if;
        if request_id is null or request_id !~ '^[A-Za-z0-9._~-]{1,64}$' or request_id ~ '^\.+$' then
            raise exception 'the request_id must be 1 to 64 of A-Z a-z 0-9 . _ ~ -' using errcode = 'check_violation';
        end if;
        if coalesce(trim(who), '') = '' then
            raise exception 'say who records it' using errcode = 'check_violation';
        end if;
        select subscription.customer_store_id as customer_id, club.store_sku as sku_id into subject
        from subscription
        left join club on club.id = subscription.club_id
        where subscription.id = record_charge.subscription_id
        for no key update of subscription;
        if not found then
            raise exception 'there is no subscription %: create it again under this id', subscription_id
                using errcode = 'foreign_key_violation';
        end if;

        perform release_orphans(subscription_id, request_id);
        for attempt in
            select charge_attempt.*
            from charge_attempt
            where (charge_attempt.request_id = record_charge.request_id
                    or charge_attempt.subscription_id = record_charge.subscription_id
                    and billing_month = (month || '-01')::date and live)
                and orphaned_at is null
                and not exists (select from orphan_note where attempt_id = charge_attempt.id)
            order by live desc, claimed_at desc
        loop
            if attempt.request_id = record_charge.request_id
                and attempt.subscription_id = record_charge.subscription_id
                and attempt.billing_month = (month || '-01')::date
            then
                recorded := coalesce(recorded, attempt);
            elsif attempt.live then
                raise exception 'subscription % has a charge of % under request_id %, which is %',
                    attempt.subscription_id, to_char(attempt.billing_month, 'YYYY-MM'), attempt.request_id, attempt.state
                    using errcode = 'check_violation';
            end if;
        end loop;
        if recorded.state = 'charged' then
            return recorded;
        end if;
        if recorded.id is null then
            insert into charge_attempt (
                id, subscription_id, billing_month, request_id, customer_id, sku_id,
                state, token, claimed_at, deadline, settled_at, decided_by, decided_at, decided_because
            )
            values (
                gen_random_uuid(), record_charge.subscription_id, (month || '-01')::date, record_charge.request_id,
                coalesce(subject.customer_id, ''), coalesce(subject.sku_id, 0),
                'charged', gen_random_uuid(), moment, moment, moment, who, moment, 'the platform has the order'
            )
            returning * into recorded;
        else
            -- The new token shuts out a call that still holds the attempt.
            update charge_attempt
            set state = 'charged',
                token = gen_random_uuid(),
                settled_at = moment,
                decided_by = who,
                decided_at = moment,
                decided_because = 'the platform has the order'
            where id = recorded.id
            returning * into recorded;
        end if;
        return recorded;
    end
    $$;
comment on function record_charge(varchar, text, varchar, text) is
    'Records a charge that the platform has and the ledger does not. It can be repeated. It refuses a second charge of a month.';
