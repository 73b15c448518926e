-- Subscribes a customer to an ACTIVE club, once per club. The ids of the new rows are the caller's, so a call whose
-- answer was lost is repeated safely: it finds its own row.
create function subscribe(
    club_id integer,
    customer_id varchar,
    subscription_id varchar,
    status_entry_id varchar,
    -- After this time nobody waits for the answer.
    seconds double precision,
    -- subscribed, club_not_found, club_not_active or already_subscribed
    out verdict text,
    out create_date timestamp,
    -- of the one that was there, if already_subscribed
    out existing_id varchar
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
        moment constant timestamp := utc_now();
        found_club record;
        existing record;
    begin
        perform require_read_committed();
        -- No constraint of the approved tables says "once per club", so a lock on this club and customer does.
        perform pg_advisory_xact_lock(hashtextextended(subscribe.customer_id, subscribe.club_id));

        select club.id,
            (select current.club_status_id = 1 from club_latest_status current where club_id = club.id limit 1) as active
        into found_club
        from club
        where club.id = subscribe.club_id;

        select subscription.id, subscription.create_date into existing
        from subscription
        where subscription.club_id = subscribe.club_id and customer_store_id = subscribe.customer_id
        order by subscription.id = subscribe.subscription_id desc
        limit 1;

        if existing.id = subscribe.subscription_id then
            verdict := 'subscribed';
            create_date := existing.create_date;
        elsif found_club.id is null then
            verdict := 'club_not_found';
        elsif found_club.active is not true then
            verdict := 'club_not_active';
        elsif existing.id is not null then
            verdict := 'already_subscribed';
            existing_id := existing.id;
        else
            insert into subscription (id, club_id, customer_store_id, create_date)
            values (subscribe.subscription_id, subscribe.club_id, subscribe.customer_id, moment);
            insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
            values (subscribe.status_entry_id, subscribe.subscription_id, 1, moment, moment);
            verdict := 'subscribed';
            create_date := moment;
        end if;
        perform give_up_after(seconds);
    end
    $$;
