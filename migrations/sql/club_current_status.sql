create view club_current_status as
    select club.id as club_id, club.name, club.store_sku,
        current.club_status_id, club_status.name as status, current.effect_date, current.details
    from club
    left join lateral (select * from club_latest_status where club_id = club.id limit 1) current on true
    left join club_status on club_status.id = current.club_status_id;
comment on view club_current_status is
    'Every club with its status now; the status is null if no entry is in effect.';
