"""The database functions of subscribe and status."""

from alembic import op
from sql_files import apply

revision = "00fc8642bd76"
down_revision = "c8a82efe4691"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create index subscription_of_customer on subscription (customer_store_id, club_id);
        """
    )
    apply("require_read_committed", "give_up_after", "subscribe")
    apply("iso_moment", "first_moment", "status_entry_id", "intended_timeline", "status_corrections", "record_status")


def downgrade() -> None:
    op.execute(
        """
        drop function record_status;
        drop function status_corrections;
        drop function status_at;
        drop function in_status_order;
        drop function intended_timeline;
        drop function is_correction;
        drop function is_skip;
        drop function status_entry_number;
        drop function status_entry_id;
        drop function first_moment;
        drop function iso_moment;
        drop function subscribe;
        drop function give_up_after;
        drop function require_read_committed;
        drop index subscription_of_customer;
        """
    )
