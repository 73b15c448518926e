"""What subscribe and status ask of the database."""

from alembic import op
from sql_files import apply

revision = "dd138d262d48"
down_revision = "c0fe4fd5bce8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index subscription_of_customer on subscription (customer_store_id, club_id)")
    apply("require_read_committed", "subscribe", "record_status")


def downgrade() -> None:
    op.execute(
        """
        drop function record_status(varchar, varchar, integer, timestamp, varchar, integer, varchar, varchar);
        drop function subscribe(integer, varchar, varchar, varchar);
        drop function require_read_committed();
        drop index subscription_of_customer;
        """
    )
