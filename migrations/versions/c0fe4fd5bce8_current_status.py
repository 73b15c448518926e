"""The definition of current status.

The first index serves deletions: the foreign key looks for entries that refer to the subscription."""

from alembic import op
from sql_files import apply

revision = "c0fe4fd5bce8"
down_revision = "bb446b69ab31"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create index subscription_status_history_of_subscription on subscription_status_history (subscription_id);
        create index subscription_status_history_in_byte_order on subscription_status_history
            (subscription_id collate "C", effect_date, create_date) include (status_id);
        create index club_status_history_in_order on club_status_history
            (club_id, effect_date desc, create_date desc nulls last, id collate "C" desc);
        """
    )
    apply("automatic_return", "subscription_statuses_at", "club_status_at")
    apply("subscription_current_status", "club_current_status")


def downgrade() -> None:
    op.execute(
        """
        drop view club_current_status;
        drop view subscription_current_status;
        drop function club_status_at(integer, timestamp);
        drop function subscription_status_at(varchar, timestamp);
        drop function subscription_statuses_at(varchar[], timestamp);
        drop function is_automatic_return(integer, varchar);
        drop function automatic_return_details();
        drop index club_status_history_in_order;
        drop index subscription_status_history_in_byte_order;
        drop index subscription_status_history_of_subscription;
        """
    )
