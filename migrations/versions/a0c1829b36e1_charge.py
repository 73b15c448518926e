"""The two steps of a charge in the database: claim and settle."""

from alembic import op
from sql_files import apply

revision = "a0c1829b36e1"
down_revision = "b53ed6b8c556"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("release_orphans", "claim_charge", "lock_month", "hold_by_late_order", "settle_charge")


def downgrade() -> None:
    op.execute(
        """
        drop function settle_charge;
        drop function hold_by_late_order;
        drop function lock_month;
        drop function claim_charge;
        drop function release_orphans;
        """
    )
