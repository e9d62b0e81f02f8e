"""${message}"""

from deploy.migrations.raw import run_sql

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """What it changes."""
    run_sql("${up_revision}_${message}.sql")
