create view unresolved_charges as
    select id as attempt_id, subscription_id, billing_month, request_id,
        least(coalesce(settled_at, deadline), billing_now()) as since,
        floor(extract(epoch from billing_now() - least(coalesce(settled_at, deadline), billing_now())) / 60)::integer as minutes,
        upstream_status
    from charge_ledger
    where pending and state = 'unknown' and not orphaned
    order by since;
comment on view unresolved_charges is
    'Attempts whose outcome is unknown, the oldest first: repeat the call, or resolve_charge().';

create function count_unresolved_charges() returns bigint language sql stable
    security definer
    set search_path from current
    set enable_seqscan = off
    return (select count(*) from unresolved_charges);
