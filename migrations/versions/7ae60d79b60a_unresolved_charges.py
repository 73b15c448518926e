"""Charges that need a person, and what that person records."""

from alembic import op
from sql_files import apply

revision = "7ae60d79b60a"
down_revision = "f71fed4dad0a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("unresolved_charges", "resolve_charge", "record_charge")


def downgrade() -> None:
    op.execute(
        """
        drop function record_charge;
        drop function resolve_charge;
        drop function count_unresolved_charges;
        drop view unresolved_charges;
        """
    )
