create function club_status_at(of_club integer, moment timestamp)
    returns table (entry_id varchar, club_status_id integer, effect_date timestamp, details varchar)
    language sql stable
    as $$
        select id, club_status_id, effect_date, details
        from club_status_history
        where club_id = of_club and effect_date <= moment
        order by effect_date desc, create_date desc nulls last, id collate "C" desc
        limit 1
    $$;
comment on function club_status_at(integer, timestamp) is
    'The entry that is a club''s status at a moment (naive UTC); no row if none is in effect.';
