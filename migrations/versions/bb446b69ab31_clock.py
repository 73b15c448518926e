"""The one clock."""

from alembic import op
from sql_files import apply

revision = "bb446b69ab31"
down_revision = "6640484e5703"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("clock")


def downgrade() -> None:
    op.execute(
        """
        drop function current_billing_month(text);
        drop function utc_now();
        drop function billing_now();
        """
    )
