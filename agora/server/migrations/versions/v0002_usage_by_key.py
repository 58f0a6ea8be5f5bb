"""Usage is counted for each key. What was counted before is of no key (0)."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "usage_by_key",
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("who", sa.Text, primary_key=True),
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
    )
    counted = "requests, prompt_tokens, completion_tokens"
    op.execute(f'INSERT INTO usage_by_key (day, who, "key", route, {counted}) SELECT day, who, 0, route, {counted} FROM usage')
    op.drop_table("usage")
    op.rename_table("usage_by_key", "usage")
