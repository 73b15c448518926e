"""The ledger of charges, and what becomes of it when a subscription is deleted."""

from alembic import op
from sql_files import apply

revision = "ba18686ff807"
down_revision = "b89fe536c7cc"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("charge_attempt", "subscription_deletion", "charge_ledger")


def downgrade() -> None:
    op.execute(
        """
        drop view charge_ledger;
        drop trigger note_truncated_subscriptions on subscription;
        drop trigger note_deleted_subscriptions on subscription;
        drop function note_deleted_subscriptions();
        drop table subscription_deletion;
        drop table charge_attempt;
        """
    )
