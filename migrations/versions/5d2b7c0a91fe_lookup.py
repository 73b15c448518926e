"""What lookup asks of the database."""

from alembic import op
from sql_files import apply

revision = "5d2b7c0a91fe"
down_revision = "4f85e2040f05"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("subscription_next_status", "subscriptions", "active_clubs")


def downgrade() -> None:
    op.execute(
        """
        drop function active_clubs();
        drop function subscriptions(varchar, varchar, double precision);
        drop function iso_moment(timestamp);
        drop function subscription_next_status(varchar, integer, timestamp, double precision);
        """
    )
