"""The two steps of a charge in the database: claim and settle."""

from alembic import op
from sql_files import apply

revision = "9fb39e40afee"
down_revision = "ba18686ff807"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("claim_charge", "settle_charge")


def downgrade() -> None:
    op.execute(
        """
        drop function settle_charge(uuid, uuid, text, smallint, text);
        drop function claim_charge(varchar, varchar, uuid, uuid, text, double precision, boolean, date);
        """
    )
