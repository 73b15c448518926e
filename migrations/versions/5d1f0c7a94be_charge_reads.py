"""The reads of a month's charges, and of a subscription's."""

from alembic import op
from sql_files import apply

revision = "5d1f0c7a94be"
down_revision = "7ae60d79b60a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("count_charges", "charges_of_month", "charges_of_subscription")


def downgrade() -> None:
    op.execute(
        """
        drop function charges_of_subscription;
        drop function charges_of_month;
        drop function count_charges;
        """
    )
