"""Charges that need a person, and what that person decides."""

from alembic import op
from sql_files import apply

revision = "4f85e2040f05"
down_revision = "9fb39e40afee"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("unresolved_charges", "resolve_charge")


def downgrade() -> None:
    op.execute(
        """
        drop function resolve_charge(uuid, text, text, text);
        drop view unresolved_charges;
        """
    )
