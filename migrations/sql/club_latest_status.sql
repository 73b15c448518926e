-- The status of each club now: its latest entry in effect. Of one club, read it with `limit 1`.
create view club_latest_status as
    select distinct on (club_id) club_id, club_status_id, effect_date, details
    from club_status_history
    where effect_date <= utc_now()
    order by club_id, effect_date desc, create_date desc nulls last, id collate "C" desc;
comment on view club_latest_status is 'The entry that is each club''s status now; no row if none is in effect.';
