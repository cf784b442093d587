"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

# Processes of the previous release are still running while this migration is applied, and for as long as a rollout
# takes: the previous release must still run on the new schema. So, within one release:
# - add columns that are nullable or have a server default, and tables; do not rename or drop what is in use;
# - do not tighten a CHECK or add NOT NULL to a column that the previous release may leave empty;
# - let a later release drop what no release uses any more.
# Lock and statement timeouts are set in `dpiqa.storage.schema`; a migration that needs more time sets its own (`SET LOCAL`).
# An index on a large table is built CONCURRENTLY, in a migration of its own (`op.get_context().autocommit_block()`).

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
