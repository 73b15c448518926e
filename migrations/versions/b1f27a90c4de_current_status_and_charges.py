"""Beside the approved entities: indexes, the definition of current status, the ledger of charges.

Nothing here alters an approved table or can refuse a row of it.
"""

from alembic import op

revision = "b1f27a90c4de"
down_revision = "6640484e5703"
branch_labels = None
depends_on = None

INDEXES = """
create index subscription_of_customer on subscription (customer_store_id, club_id);
create index subscription_in_byte_order on subscription (id collate "C") include (club_id);
create index subscription_status_history_in_order on subscription_status_history
    (subscription_id, effect_date desc, create_date desc nulls last, id collate "C" desc);
create index club_status_history_in_order on club_status_history
    (club_id, effect_date desc, create_date desc nulls last, id collate "C" desc);
"""

# One clock for everything that is decided by time. `stable`, so that the functions below are inlined.
CLOCK = """
create function billing_now() returns timestamptz language sql stable
    as $$ select statement_timestamp() $$;
comment on function billing_now() is
    'The one clock: every decision about time asks here.';

create function utc_now() returns timestamp language sql stable
    as $$ select billing_now() at time zone 'UTC' $$;
comment on function utc_now() is
    'The one clock as the approved tables write it: naive, meaning UTC.';
"""

# The one definition of current status. An automatic return (an ACTIVE entry that a pause wrote as its own end) is
# void when something newer has overtaken the pause, or when a cancellation was recorded after it.
CURRENT_STATUS = """
create function is_automatic_return(status_id integer, details varchar) returns boolean language sql immutable
    as $$ select coalesce(status_id = 1 and details = 'Automatic return schedule', false) $$;

create function subscription_status_at(of_subscription varchar, moment timestamp)
    returns table (entry_id varchar, status_id integer, effect_date timestamp, details varchar)
    language sql stable
    as $$
        select entry.id, entry.status_id, entry.effect_date, entry.details
        from subscription_status_history entry
        where entry.subscription_id = of_subscription
            and entry.effect_date <= moment
            and (
                is_automatic_return(entry.status_id, entry.details)
                and (
                    -- the latest entry before it was recorded after it
                    (
                        select coalesce(before.create_date, before.effect_date) > entry.create_date
                        from subscription_status_history before
                        where before.subscription_id = entry.subscription_id
                            and not is_automatic_return(before.status_id, before.details)
                            and (before.effect_date, coalesce(before.create_date, '-infinity'), before.id collate "C")
                                < (entry.effect_date, entry.create_date, entry.id collate "C")
                        order by before.effect_date desc, before.create_date desc nulls last, before.id collate "C" desc
                        limit 1
                    )
                    -- of those recorded after it, the latest is CANCELLED
                    or (
                        select before.status_id = 2
                        from subscription_status_history before
                        where before.subscription_id = entry.subscription_id
                            and not is_automatic_return(before.status_id, before.details)
                            and (before.effect_date, coalesce(before.create_date, '-infinity'), before.id collate "C")
                                < (entry.effect_date, entry.create_date, entry.id collate "C")
                            and coalesce(before.create_date, before.effect_date) > entry.create_date
                        order by before.effect_date desc, before.create_date desc nulls last, before.id collate "C" desc
                        limit 1
                    )
                )
            ) is not true
        order by entry.effect_date desc, entry.create_date desc nulls last, entry.id collate "C" desc
        limit 1
    $$;
comment on function subscription_status_at(varchar, timestamp) is
    'The entry that is a subscription''s status at a moment (naive UTC); no row when none is in effect.';

create function club_status_at(of_club integer, moment timestamp)
    returns table (entry_id varchar, club_status_id integer, effect_date timestamp, details varchar)
    language sql stable
    as $$
        select entry.id, entry.club_status_id, entry.effect_date, entry.details
        from club_status_history entry
        where entry.club_id = of_club and entry.effect_date <= moment
        order by entry.effect_date desc, entry.create_date desc nulls last, entry.id collate "C" desc
        limit 1
    $$;
comment on function club_status_at(integer, timestamp) is
    'The entry that is a club''s status at a moment (naive UTC); no row when none is in effect.';

create view subscription_current_status as
    select s.id as subscription_id, s.club_id, s.customer_store_id,
        entry.status_id, status.name as status, entry.effect_date, entry.details
    from subscription s
    left join lateral subscription_status_at(s.id, utc_now()) entry on true
    left join status on status.id = entry.status_id;
comment on view subscription_current_status is
    'Every subscription with its status now; the status is null when no entry is in effect.';

create view club_current_status as
    select c.id as club_id, c.name, c.store_sku,
        entry.club_status_id, club_status.name as status, entry.effect_date, entry.details
    from club c
    left join lateral club_status_at(c.id, utc_now()) entry on true
    left join club_status on club_status.id = entry.club_status_id;
comment on view club_current_status is
    'Every club with its status now; the status is null when no entry is in effect.';
"""

LEDGER = """
create table charge_attempt (
    id uuid primary key,
    subscription_id varchar(36) not null,
    billing_month date not null check (extract(day from billing_month) = 1),
    request_id varchar(64) not null,
    customer_store_id varchar(36) not null,
    store_sku integer not null,
    state text not null check (state in ('in_flight', 'charged', 'rejected', 'not_sent', 'unknown')),
    possibly_sent boolean not null default false,
    token uuid not null,
    claimed_at timestamptz not null,
    deadline timestamptz not null,
    settled_at timestamptz,
    upstream_status smallint,
    platform_order text,
    late_order_at timestamptz,
    last_detachment bigint not null,
    detached_at timestamptz,
    decided_by text,
    decided_at timestamptz,
    decided_because text
);
comment on table charge_attempt is 'The ledger: every attempt at charging a subscription for a month.';
comment on column charge_attempt.billing_month is 'First day of the month, in the billing time zone.';
comment on column charge_attempt.customer_store_id is 'The customer the order names; a repeat sends the same.';
comment on column charge_attempt.store_sku is 'The sku the order names; a repeat sends the same.';
comment on column charge_attempt.possibly_sent is
    'An earlier call-out of this attempt may have reached the platform: it ends as charged or stays unknown.';
comment on column charge_attempt.token is 'Of the call that holds the attempt; only that call settles it.';
comment on column charge_attempt.deadline is 'Nothing is sent after it; in flight past it counts as unknown.';
comment on column charge_attempt.platform_order is 'The platform''s answer, JSON as it was received.';
comment on column charge_attempt.late_order_at is
    'When the platform''s acceptance arrived after the attempt had been decided otherwise.';
comment on column charge_attempt.decided_by is 'Who decided, where only a person could know what happened.';
comment on column charge_attempt.last_detachment is 'The latest charge_detachment at the claim; a later one detaches.';

create unique index charge_attempt_month_once on charge_attempt (subscription_id, billing_month)
    where state in ('in_flight', 'unknown', 'charged') and detached_at is null;
create unique index charge_attempt_request_id_once on charge_attempt (request_id)
    where state in ('in_flight', 'unknown', 'charged') and detached_at is null;
create index charge_attempt_of_request_id on charge_attempt (request_id);

create table charge_detachment (
    id bigint generated always as identity primary key,
    subscription_id varchar(36),
    recorded_at timestamptz not null
);
create index charge_detachment_of_subscription on charge_detachment (subscription_id, id);
comment on table charge_detachment is
    'Subscriptions that were deleted (null: all of them, by TRUNCATE): attempts claimed before count no more.';

create view charge_ledger as
    select attempt.*,
        case when attempt.state = 'in_flight' and attempt.deadline < billing_now() then 'unknown'
            else attempt.state end as standing,
        attempt.detached_at is not null
            or exists (select from charge_detachment d
                where d.subscription_id = attempt.subscription_id and d.id > attempt.last_detachment)
            or exists (select from charge_detachment d
                where d.subscription_id is null and d.id > attempt.last_detachment) as detached
    from charge_attempt attempt;
comment on view charge_ledger is
    'Attempts as they stand now: in flight past the deadline is unknown; detached when the subscription has gone.';
"""

# What only a person can know about an attempt, a person records; the database refuses it where it is known.
DECISION = """
create view charge_attention as
    select id as attempt_id, subscription_id, billing_month, request_id, state,
        coalesce(settled_at, deadline) as since,
        floor(extract(epoch from billing_now() - coalesce(settled_at, deadline)) / 60)::integer as minutes,
        upstream_status
    from charge_ledger
    where standing = 'unknown' and not detached
    order by since;
comment on view charge_attention is
    'Attempts whose outcome is unknown, the oldest first: repeat the call, or decide_charge().';

create function decide_charge(attempt_id uuid, outcome text, because text, who text default session_user)
    returns charge_attempt
    language plpgsql
    as $$
    declare
        decided charge_attempt;
    begin
        if outcome is null or outcome not in ('charged', 'rejected', 'not_sent') then
            raise exception 'the outcome must be charged, rejected or not_sent' using errcode = 'check_violation';
        end if;
        if coalesce(trim(because), '') = '' or coalesce(trim(who), '') = '' then
            raise exception 'say who decides, and why' using errcode = 'check_violation';
        end if;
        -- The new token fences off whichever call still holds the attempt.
        update charge_attempt
        set state = outcome,
            token = gen_random_uuid(),
            settled_at = billing_now(),
            decided_by = who,
            decided_at = billing_now(),
            decided_because = because
        where id = attempt_id
            and (state = 'unknown' or state = 'in_flight' and deadline < billing_now())
        returning * into decided;
        if not found then
            raise exception 'charge attempt % is neither unknown nor in flight past its deadline', attempt_id
                using errcode = 'check_violation';
        end if;
        return decided;
    end
    $$;
comment on function decide_charge(uuid, text, text, text) is
    'Records what a person found out: charged, rejected or not_sent; why; and who, if not the session''s user.';
"""

# Only inserts, into a table without a unique key but its own identity: whatever else holds locks, whatever the
# isolation level, the DELETE or TRUNCATE that fires it goes through. With the rights of the ledger's owner, because
# whoever may delete a subscription need not have any on the ledger.
DETACHMENT = """
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
create function detach_charges() returns trigger language plpgsql security definer
    set search_path from current
    as $$
    begin
        if tg_op = 'TRUNCATE' then
            insert into charge_detachment (recorded_at) values (billing_now());
        else
            insert into charge_detachment (subscription_id, recorded_at) select id, billing_now() from gone;
        end if;
        return null;
    end
    $$;
create trigger detach_charges_of_deleted after delete on subscription
    referencing old table as gone for each statement execute function detach_charges();
create trigger detach_charges_of_all after truncate on subscription
    for each statement execute function detach_charges();
"""


def upgrade() -> None:
    for part in (INDEXES, CLOCK, CURRENT_STATUS, LEDGER, DECISION, DETACHMENT):
        op.execute(part)


def downgrade() -> None:
    op.execute(
        """
        drop trigger detach_charges_of_all on subscription;
        drop trigger detach_charges_of_deleted on subscription;
        drop function detach_charges();
        drop function decide_charge(uuid, text, text, text);
        drop view charge_attention;
        drop view charge_ledger;
        drop table charge_detachment;
        drop table charge_attempt;
        drop view club_current_status;
        drop view subscription_current_status;
        drop function club_status_at(integer, timestamp);
        drop function subscription_status_at(varchar, timestamp);
        drop function is_automatic_return(integer, varchar);
        drop function utc_now();
        drop function billing_now();
        drop index club_status_history_in_order;
        drop index subscription_status_history_in_order;
        drop index subscription_in_byte_order;
        drop index subscription_of_customer;
        """
    )
