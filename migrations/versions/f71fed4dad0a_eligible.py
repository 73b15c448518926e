"""The list of eligible subscriptions, read from two indexes in the byte order of the ids."""

from alembic import op
from sql_files import apply

revision = "f71fed4dad0a"
down_revision = "a0c1829b36e1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create index subscription_in_byte_order on subscription (id collate "C") include (club_id);
        """
    )
    apply("before_95fc9f0c000d/eligible_subscriptions")


def downgrade() -> None:
    op.execute(
        """
        drop function eligible_subscriptions;
        drop index subscription_in_byte_order;
        """
    )
