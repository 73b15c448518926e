"""The list of eligible subscriptions, read from two indexes in the byte order of the ids."""

from alembic import op
from sql_files import apply

revision = "b89fe536c7cc"
down_revision = "dd138d262d48"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute('create index subscription_in_byte_order on subscription (id collate "C") include (club_id)')
    apply("eligible_subscriptions")


def downgrade() -> None:
    op.execute(
        """
        drop function eligible_subscriptions(varchar, integer, integer, double precision);
        drop index subscription_in_byte_order;
        """
    )
