-- The rights of the functions' login: it may call what the API calls, and nothing else.
create function grant_to_functions(role name) returns void language plpgsql
    set search_path from current
    as $$
    begin
        execute format('grant usage on schema %I to %I', current_schema(), role);
        execute format(
            'grant execute on function subscribe, record_status, subscriptions, active_clubs, eligible_subscriptions,
                current_billing_month, claim_charge, settle_charge, count_unresolved_charges
             to %I',
            role
        );
    end
    $$;
comment on function grant_to_functions(name) is 'Lets a role call what the API calls, and nothing else.';
revoke execute on function grant_to_functions from public;

-- The rights of an operator on what is ours: to read the views, and to decide about charges.
create function grant_to_operators(role name) returns void language plpgsql
    set search_path from current
    as $$
    begin
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
revoke execute on function grant_to_operators from public;
