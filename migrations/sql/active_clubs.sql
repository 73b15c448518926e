-- The clubs that take subscriptions, by their ids.
create function active_clubs()
    returns table (id integer, name varchar, store_sku integer)
    language plpgsql stable
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    as $$
    #variable_conflict use_column
    begin
        return query
        select club.id, club.name, club.store_sku
        from club
        where (select current.club_status_id = 1 from club_latest_status current where club_id = club.id limit 1)
        order by club.id;
    end
    $$;
