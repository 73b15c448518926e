"""The rights of the functions' login and of operators."""

from alembic import op
from sql_files import apply

revision = "481e2ad8607a"
down_revision = "5d1f0c7a94be"
branch_labels = None
depends_on = None


def upgrade() -> None:
    apply("rights")


def downgrade() -> None:
    op.execute(
        """
        drop function grant_to_operators;
        drop function grant_to_functions;
        drop function close_to_public;
        """
    )
