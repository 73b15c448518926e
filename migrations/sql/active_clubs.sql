-- The clubs that take subscriptions, by their ids.
create function active_clubs()
    returns table (id integer, name varchar, store_sku integer)
    language plpgsql stable
    set lock_timeout = '300ms'
    set enable_seqscan = off
    set enable_indexonlyscan = off
    as $$
    #variable_conflict use_column
    declare
        moment constant timestamp := utc_now();
    begin
        return query
        select club.id, club.name, club.store_sku
        from club
        cross join lateral club_status_at(club.id, moment) current
        where current.club_status_id = 1
        order by club.id;
    end
    $$;
