"""The list of eligible subscriptions in one pass over an index, where it was some lookups for each of them.

What is current status does not change: `subscription_status_at` says it, with one lookup less and through the new
index, and the quick form beside it asks it wherever more than the order of entries decides.
"""

from alembic import op

revision = "c84e0d5b7f12"
down_revision = "b1f27a90c4de"
branch_labels = None
depends_on = None

# By the bytes of the ids, as the list of subscriptions is, and with all that decides, so that no table is read.
# The small one is for whoever deletes a subscription, which looks for entries that refer to it.
INDEXES = """
create index subscription_status_history_in_byte_order on subscription_status_history
    (subscription_id collate "C", effect_date desc, create_date desc nulls last, id collate "C" desc)
    include (status_id, details);
create index subscription_status_history_of_subscription on subscription_status_history (subscription_id);
drop index subscription_status_history_in_order;
"""

# The one definition of current status. An automatic return (an ACTIVE entry that a pause wrote as its own end) is
# void when something newer has overtaken the pause, or when a cancellation was recorded after it.
CURRENT_STATUS = """
create or replace function subscription_status_at(of_subscription varchar, moment timestamp)
    returns table (entry_id varchar, status_id integer, effect_date timestamp, details varchar)
    language sql stable
    as $$
        select entry.id, entry.status_id, entry.effect_date, entry.details
        from subscription_status_history entry
        where entry.subscription_id collate "C" = of_subscription
            and entry.effect_date <= moment
            and (
                is_automatic_return(entry.status_id, entry.details)
                -- of those before it that were recorded after it, the latest is CANCELLED or the latest of all
                and (
                    select before.status_id = 2 or not exists (
                        select from subscription_status_history between_them
                        where between_them.subscription_id collate "C" = of_subscription
                            and not is_automatic_return(between_them.status_id, between_them.details)
                            and (between_them.effect_date, coalesce(between_them.create_date, '-infinity'),
                                    between_them.id collate "C")
                                < (entry.effect_date, entry.create_date, entry.id collate "C")
                            and (between_them.effect_date, coalesce(between_them.create_date, '-infinity'),
                                    between_them.id collate "C")
                                > (before.effect_date, coalesce(before.create_date, '-infinity'),
                                    before.id collate "C")
                    )
                    from subscription_status_history before
                    where before.subscription_id collate "C" = of_subscription
                        and not is_automatic_return(before.status_id, before.details)
                        and (before.effect_date, coalesce(before.create_date, '-infinity'), before.id collate "C")
                            < (entry.effect_date, entry.create_date, entry.id collate "C")
                        and coalesce(before.create_date, before.effect_date) > entry.create_date
                    order by before.effect_date desc, before.create_date desc nulls last, before.id collate "C" desc
                    limit 1
                )
            ) is not true
        order by entry.effect_date desc, entry.create_date desc nulls last, entry.id collate "C" desc
        limit 1
    $$;

create function active_subscriptions_at(moment timestamp)
    returns table (subscription_id varchar)
    language sql stable
    as $$
        select latest.subscription_id
        from (
            select
                entry.subscription_id collate "C" as subscription_id,
                -- of the latest entry; null if it is not ACTIVE, infinity if nothing can be recorded after it
                (array_agg(
                    case when entry.status_id = 1 then coalesce(entry.create_date, 'infinity') end
                    order by entry.effect_date desc, entry.create_date desc nulls last, entry.id collate "C" desc
                ))[1] as recorded,
                max(coalesce(entry.create_date, entry.effect_date)) as last_recorded
            from subscription_status_history entry
            where entry.effect_date <= moment
            group by entry.subscription_id collate "C"
        ) latest
        where case
            -- It is void, perhaps.
            when latest.recorded < latest.last_recorded
                then (select status_id = 1 from subscription_status_at(latest.subscription_id, moment))
            else latest.recorded is not null
        end
    $$;
comment on function active_subscriptions_at(timestamp) is
    'The ids whose subscription_status_at is ACTIVE at a moment (naive UTC): the quick form, for many of them.';
"""

# As the revision before has them.
BEFORE = """
create index subscription_status_history_in_order on subscription_status_history
    (subscription_id, effect_date desc, create_date desc nulls last, id collate "C" desc);
drop index subscription_status_history_of_subscription;
drop index subscription_status_history_in_byte_order;

drop function active_subscriptions_at(timestamp);
create or replace function subscription_status_at(of_subscription varchar, moment timestamp)
    returns table (entry_id varchar, status_id integer, effect_date timestamp, details varchar)
    language sql stable
    as $$
        select entry.id, entry.status_id, entry.effect_date, entry.details
        from subscription_status_history entry
        where entry.subscription_id = of_subscription
            and entry.effect_date <= moment
            and (
                is_automatic_return(entry.status_id, entry.details)
                and (
                    -- the latest entry before it was recorded after it
                    (
                        select coalesce(before.create_date, before.effect_date) > entry.create_date
                        from subscription_status_history before
                        where before.subscription_id = entry.subscription_id
                            and not is_automatic_return(before.status_id, before.details)
                            and (before.effect_date, coalesce(before.create_date, '-infinity'), before.id collate "C")
                                < (entry.effect_date, entry.create_date, entry.id collate "C")
                        order by before.effect_date desc, before.create_date desc nulls last, before.id collate "C" desc
                        limit 1
                    )
                    -- of those recorded after it, the latest is CANCELLED
                    or (
                        select before.status_id = 2
                        from subscription_status_history before
                        where before.subscription_id = entry.subscription_id
                            and not is_automatic_return(before.status_id, before.details)
                            and (before.effect_date, coalesce(before.create_date, '-infinity'), before.id collate "C")
                                < (entry.effect_date, entry.create_date, entry.id collate "C")
                            and coalesce(before.create_date, before.effect_date) > entry.create_date
                        order by before.effect_date desc, before.create_date desc nulls last, before.id collate "C" desc
                        limit 1
                    )
                )
            ) is not true
        order by entry.effect_date desc, entry.create_date desc nulls last, entry.id collate "C" desc
        limit 1
    $$;
"""


def upgrade() -> None:
    op.execute(INDEXES)
    op.execute(CURRENT_STATUS)


def downgrade() -> None:
    op.execute(BEFORE)
