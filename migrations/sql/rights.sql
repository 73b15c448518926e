-- PostgreSQL lets everybody execute a new function. After a restore without rights, each is new.
create function close_to_public() returns void language plpgsql
    set search_path from current
    as $$
    begin
        revoke execute on function
            active_clubs, automatic_return_details, billing_now, charges_of_month, charges_of_subscription,
            claim_charge, close_to_public, count_charges, count_unresolved_charges, current_billing_month,
            eligible_subscriptions, first_moment, forget_orphans, give_up_after, grant_to_functions,
            grant_to_operators, hold_by_late_order, in_status_order, intended_timeline, is_automatic_return, is_correction,
            is_past_deadline, is_skip, iso_moment, lock_month, note_orphans, record_charge, record_status, release_orphans,
            require_read_committed, resolve_charge, settle_charge, status_at, status_corrections, status_entry_id,
            status_entry_number, status_timeline, subscribe, subscriptions, utc_now
        from public;
    end
    $$;
comment on function close_to_public() is 'Takes the right to execute our functions from everybody but their owner.';

-- The rights of the functions' login: it may call what the API calls, and nothing else.
create function grant_to_functions(role name) returns void language plpgsql
    set search_path from current
    as $$
    begin
        perform close_to_public();
        execute format('grant usage on schema %I to %I', current_schema(), role);
        execute format(
            'grant execute on function subscribe, record_status, subscriptions, active_clubs, eligible_subscriptions,
                current_billing_month, claim_charge, settle_charge, count_charges, charges_of_month, charges_of_subscription,
                count_unresolved_charges
             to %I',
            role
        );
    end
    $$;
comment on function grant_to_functions(name) is 'Lets a role call what the API calls, and nothing else.';

-- The rights of an operator on what is ours: to read the views, and to decide about charges.
create function grant_to_operators(role name) returns void language plpgsql
    set search_path from current
    as $$
    begin
        perform close_to_public();
        execute format('grant usage on schema %I to %I', current_schema(), role);
        execute format(
            'grant select on subscription_current_status, club_current_status, charge_ledger, unresolved_charges to %I', role
        );
        -- The functions in a view are called with the rights of the view's reader.
        execute format(
            'grant execute on function utc_now, billing_now, automatic_return_details, is_automatic_return, status_timeline,
                is_past_deadline, resolve_charge, record_charge
             to %I',
            role
        );
    end
    $$;
comment on function grant_to_operators(name) is 'Lets a role read the views and decide about charges.';

select close_to_public();
