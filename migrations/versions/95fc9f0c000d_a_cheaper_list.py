"""The list of eligible subscriptions, cheaper: larger chunks, clubs tested by a hash, no clock asked about a doubt."""

from sql_files import replace

revision = "95fc9f0c000d"
down_revision = "481e2ad8607a"
branch_labels = None
depends_on = None

REPLACED = ("subscription_status", "eligible_subscriptions")


def upgrade() -> None:
    replace(*REPLACED)


def downgrade() -> None:
    replace(*(f"before_{revision}/{name}" for name in REPLACED))
