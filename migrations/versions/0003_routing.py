"""How queues route and what agents may hold, as JSON that grows with the rules; a counter of a tenant's set-up changes.

Revision 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
phase = "pre"

Json = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("queue", sa.Column("routing", Json, nullable=False, server_default="{}"))
    op.add_column("queue", sa.Column("life", Json, nullable=False, server_default="{}"))
    op.add_column("user", sa.Column("capacity", Json, nullable=False, server_default="{}"))
    op.add_column("tenant", sa.Column("set_up", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("tenant", "set_up")
    op.drop_column("user", "capacity")
    op.drop_column("queue", "life")
    op.drop_column("queue", "routing")
