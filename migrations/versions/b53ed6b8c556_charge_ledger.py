"""The ledger of charges, and the notes of attempts whose subscription was deleted."""

from alembic import op
from sql_files import apply

revision = "b53ed6b8c556"
down_revision = "61cb71b19e95"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("charge_attempt", "orphan_note", "charge_ledger")


def downgrade() -> None:
    op.execute(
        """
        drop view charge_ledger;
        drop function is_past_deadline;
        drop trigger note_truncated_subscriptions on subscription;
        drop trigger note_deleted_subscriptions on subscription;
        drop function note_orphans;
        drop table orphan_note;
        drop table charge_attempt;
        drop function forget_orphans;
        """
    )
