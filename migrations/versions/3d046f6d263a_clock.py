"""The one clock."""

from alembic import op
from sql_files import apply

revision = "3d046f6d263a"
down_revision = "6640484e5703"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("clock")


def downgrade() -> None:
    op.execute(
        """
        drop function current_billing_month;
        drop function utc_now;
        drop function billing_now;
        """
    )
