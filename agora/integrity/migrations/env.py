"""Where Alembic gets its connection: the ledger hands over its own. Run by `alembic.command.upgrade` only, never imported."""

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table=given["version_table"], render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
