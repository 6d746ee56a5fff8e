"""Several control nodes on one database: who holds which tab, who lives, who carries out which orders.

Revision 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
phase = "pre"

SEEN = sa.text("live OR state IN ('ringing', 'on_contact', 'wrap_up')")
CONNECTED = sa.text("node_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("agent", sa.Column("live", sa.Boolean(), nullable=False, server_default=sa.false()))
    if op.get_bind().dialect.name == "sqlite":
        op.execute("UPDATE agent SET live = json_extract(body, '$.live')")
    else:
        op.execute("UPDATE agent SET live = (body ->> 'live')::boolean")
    op.create_index("agent_seen", "agent", ["user_id"], sqlite_where=SEEN, postgresql_where=SEEN)

    op.add_column("person", sa.Column("node_id", sa.Text(), nullable=True))
    op.add_column("person", sa.Column("tab_id", sa.Text(), nullable=True))
    op.create_index("person_by_node", "person", ["node_id"], sqlite_where=CONNECTED, postgresql_where=CONNECTED)

    op.create_table(
        "node",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("workers", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "order_lease",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id"),
    )
    op.create_index("order_lease_by_node", "order_lease", ["node_id"])

    op.create_table(
        "secret",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    for table in ("secret", "order_lease", "node"):
        op.drop_table(table)
    op.drop_index("person_by_node", "person")
    op.drop_column("person", "tab_id")
    op.drop_column("person", "node_id")
    op.drop_index("agent_seen", "agent")
    op.drop_column("agent", "live")
