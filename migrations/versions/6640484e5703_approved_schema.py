"""The approved entities: clubs, subscriptions and the history of their statuses.

Databases that are stamped with this revision exist. It never changes.
"""

import sqlalchemy as sa
from alembic import op

revision = "6640484e5703"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "club",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(128)),
        sa.Column("store_sku", sa.Integer),
    )
    for lookup, names in {
        "club_status": ("ATIVO", "FECHADO", "INATIVO"),
        "status": ("ATIVO", "CANCELADO", "PAUSADO"),
    }.items():
        table = op.create_table(
            lookup,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String(128)),
        )
        # Without ids: the sequence hands out 1, 2, 3, and an operator's next row gets 4.
        for name in names:
            op.execute(table.insert().values(name=name))
    op.create_table(
        "club_status_history",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("club_id", sa.Integer, sa.ForeignKey("club.id", ondelete="RESTRICT")),
        sa.Column("club_status_id", sa.Integer, sa.ForeignKey("club_status.id", ondelete="RESTRICT")),
        sa.Column("effect_date", sa.DateTime),
        sa.Column("create_date", sa.DateTime),
        sa.Column("details", sa.String(256)),
    )
    op.create_table(
        "subscription",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("club_id", sa.Integer, sa.ForeignKey("club.id", ondelete="RESTRICT")),
        sa.Column("customer_store_id", sa.String(36)),
        sa.Column("create_date", sa.DateTime),
    )
    op.create_table(
        "subscription_status_history",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("subscription_id", sa.String(36), sa.ForeignKey("subscription.id", ondelete="RESTRICT")),
        sa.Column("status_id", sa.Integer, sa.ForeignKey("status.id", ondelete="RESTRICT")),
        sa.Column("effect_date", sa.DateTime),
        sa.Column("create_date", sa.DateTime),
        sa.Column("details", sa.String(256)),
    )


def downgrade() -> None:
    for table in (
        "subscription_status_history",
        "subscription",
        "club_status_history",
        "status",
        "club_status",
        "club",
    ):
        op.drop_table(table)
