"""The database functions of lookup."""

from alembic import op
from sql_files import apply

revision = "61cb71b19e95"
down_revision = "00fc8642bd76"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("subscriptions", "active_clubs")


def downgrade() -> None:
    op.execute(
        """
        drop function active_clubs;
        drop function subscriptions;
        """
    )
