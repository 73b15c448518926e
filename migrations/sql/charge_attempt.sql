create table charge_attempt (
    id uuid primary key,
    subscription_id varchar(36) not null,
    billing_month date not null check (extract(day from billing_month) = 1),
    request_id varchar(64) not null,
    customer_id varchar(36) not null,
    sku_id integer not null,
    state text not null check (state in ('in_flight', 'charged', 'rejected', 'not_sent', 'unknown')),
    pending boolean not null generated always as (state in ('in_flight', 'unknown')) stored,
    live boolean not null generated always as (state in ('in_flight', 'unknown', 'charged')) stored,
    possibly_sent boolean not null default false,
    token uuid not null,
    claimed_at timestamptz not null,
    deadline timestamptz not null,
    settled_at timestamptz,
    upstream_status smallint,
    "order" text,
    upstream_answer text,
    late_order_at timestamptz,
    orphaned_at timestamptz,
    decided_by text,
    decided_at timestamptz,
    decided_because text
);
comment on table charge_attempt is 'The ledger: every attempt to charge a subscription for a month.';
comment on column charge_attempt.billing_month is 'First day of the month, in the billing time zone.';
comment on column charge_attempt.customer_id is 'The customer that the order names; a repeat sends the same.';
comment on column charge_attempt.sku_id is 'The sku that the order names; a repeat sends the same.';
comment on column charge_attempt.pending is 'The outcome is not known yet.';
comment on column charge_attempt.live is 'It holds its month and its request_id.';
comment on column charge_attempt.possibly_sent is
    'An earlier call-out of this attempt may have reached the platform: it ends as charged or stays unknown.';
comment on column charge_attempt.token is 'Names the call that holds the attempt; only that call settles it.';
comment on column charge_attempt.deadline is 'Nothing is sent after it; in flight past it counts as unknown.';
comment on column charge_attempt."order" is 'The platform''s answer, JSON as it was received.';
comment on column charge_attempt.upstream_answer is 'What the platform said when it refused: JSON, or text.';
comment on column charge_attempt.late_order_at is
    'When the platform''s acceptance arrived after the attempt had ended otherwise and another one held its month.';
comment on column charge_attempt.decided_by is 'Who decided, if only a person could know what happened.';
comment on column charge_attempt.orphaned_at is 'When the orphan gave back its month and its request_id.';

create unique index charge_attempt_once_a_month on charge_attempt (subscription_id collate "C", billing_month)
    where live and orphaned_at is null;
create unique index charge_attempt_request_id_once on charge_attempt (request_id)
    where live and orphaned_at is null;
create index charge_attempt_of_request_id on charge_attempt (request_id);
create index charge_attempt_pending on charge_attempt (deadline) where pending;
create index charge_attempt_of_month on charge_attempt (billing_month, subscription_id collate "C", claimed_at, id);
create index charge_attempt_ended on charge_attempt (billing_month, subscription_id collate "C") where not live;
create index charge_attempt_of_subscription on charge_attempt (subscription_id);
