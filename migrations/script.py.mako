<% import textwrap %>"""${"\n".join(textwrap.wrap(message, 110)).replace("\\", "\\\\").replace('"', "'")}"""

from sql_files import apply

revision = ${repr(up_revision).replace("'", '"')}
down_revision = ${repr(down_revision).replace("'", '"')}
branch_labels = ${repr(branch_labels).replace("'", '"')}
depends_on = ${repr(depends_on).replace("'", '"')}


def upgrade() -> None:
    apply()


def downgrade() -> None:
    raise NotImplementedError
