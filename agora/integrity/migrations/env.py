"""Where Alembic gets its connection: the ledger hands over its own. Run by `alembic.command.upgrade` only, never imported."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
