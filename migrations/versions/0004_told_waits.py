"""What customers were told of their wait: the first range of each queue visit; and how long they were away meanwhile.

Revision 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
phase = "pre"

COLUMNS = ("told_at", "told_position", "told_low_ms", "told_high_ms", "away_ms")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("queue_visit", sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("queue_visit", name)
