-- The status of each subscription now: its latest entry in effect. Only if that is an automatic return, and a cancellation
-- or an entry that was recorded later is in effect, is the definition asked.
--
-- A reader takes a range of subscription_id, which an index has in byte order, or one subscription with `limit 1`. Columns
-- that a reader does not name cost nothing. The entries in effect are those up to the latest one's date.
create view subscription_status as
    select subscription_id,
        case when in_doubt then (timeline[1]).id else id end as entry_id,
        case when in_doubt then (timeline[1]).status_id else status_id end as status_id,
        case when in_doubt then (timeline[1]).effect_date else effect_date end as effect_date,
        case when in_doubt then (timeline[1]).details else details end as details
    from (
        select *,
            is_automatic_return(status_id, details) and exists (
                select
                from subscription_status_history entry
                where entry.subscription_id collate "C" = latest.subscription_id
                    and entry.effect_date <= latest.effect_date
                    and (entry.status_id = 2 or coalesce(entry.create_date, entry.effect_date) > latest.create_date)
            ) as in_doubt,
            status_timeline(
                -- A row of the columns, because the index has them and the whole row is in the table.
                array(
                    select row(
                        entry.id, entry.subscription_id, entry.status_id, entry.effect_date, entry.create_date, entry.details
                    )::subscription_status_history
                    from subscription_status_history entry
                    where entry.subscription_id collate "C" = latest.subscription_id
                        and entry.effect_date <= latest.effect_date
                    order by entry.effect_date, entry.create_date nulls first, entry.id collate "C"
                ),
                utc_now()
            ) as timeline
        from (
            select distinct on (subscription_id collate "C")
                subscription_id collate "C" as subscription_id, id, status_id, effect_date, details, create_date
            from subscription_status_history
            where effect_date <= utc_now()
            order by subscription_id collate "C", effect_date desc, create_date desc nulls last, id collate "C" desc
        ) latest
    ) latest;
comment on view subscription_status is
    'The entry that is each subscription''s status now; no row if none is in effect.';
