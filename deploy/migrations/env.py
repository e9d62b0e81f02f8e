"""Alembic's entry point. The connection comes from `deploy.migrate`, which holds the lock and the transaction."""

from alembic import context

from deploy.migrate import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE, version_table_schema="public")
with context.begin_transaction():
    context.run_migrations()
