"""The definition of a subscription's status, and the statuses of all subscriptions and clubs now.

The first index serves deletions: the foreign key looks for entries that refer to the subscription.
"""

from alembic import op
from sql_files import apply

revision = "c8a82efe4691"
down_revision = "3d046f6d263a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create index subscription_status_history_of_subscription on subscription_status_history (subscription_id);
        create index subscription_status_history_in_order on subscription_status_history
            (subscription_id collate "C", effect_date desc, create_date desc nulls last, id collate "C" desc)
            include (status_id, details);
        create index club_status_history_in_order on club_status_history
            (club_id, effect_date desc, create_date desc nulls last, id collate "C" desc);
        """
    )
    apply(
        "automatic_return", "status_timeline", "before_95fc9f0c000d/subscription_status", "subscription_current_status"
    )
    apply("club_latest_status", "club_current_status")


def downgrade() -> None:
    op.execute(
        """
        drop view club_current_status;
        drop view club_latest_status;
        drop view subscription_current_status;
        drop view subscription_status;
        drop function status_timeline;
        drop function is_automatic_return;
        drop function automatic_return_details;
        drop index club_status_history_in_order;
        drop index subscription_status_history_in_order;
        drop index subscription_status_history_of_subscription;
        """
    )
