"""The store's tables, in portable types. No queries here, and the DDL of `event` is the recorder's."""

import sqlalchemy as sa

metadata = sa.MetaData()
_ID: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits. SQLite numbers rows by itself only where the type is called INTEGER."""
_TIME: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
"""UTC epoch seconds. REAL has 8 bytes in SQLite, and 4 elsewhere: too few for a second of this century."""
event = sa.Table(  # made by the recorder; a test compares the two
    "event",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("jail", sa.Text, nullable=False),
    sa.Column("ip", sa.Text, nullable=False),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("recorded_at", _TIME, nullable=False),
    sa.Column("failures", _ID),
    sa.Column("bantime", _ID),
    sa.Column("bancount", _ID),
    sa.Column("users", sa.Text),
    sa.Column("matches", sa.Text),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("history", sa.Integer, nullable=False),
    sa.UniqueConstraint("jail", "ip", "kind", "at", "host"),
)
digest = sa.Table(
    "digest",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("uuid", sa.Text, nullable=False, unique=True),
    sa.Column("report", sa.Text, nullable=False),
    sa.Column("after_id", _ID, nullable=False),  # the digest before it, or 0
    sa.Column("first_id", _ID, nullable=False),
    sa.Column("last_id", _ID, nullable=False),
    sa.Column("period_start", _TIME, nullable=False),
    sa.Column("period_end", _TIME, nullable=False),
    sa.Column("sealed_at", _TIME, nullable=False),
    sa.Column("bans", sa.Integer, nullable=False),
    sa.Column("document", sa.Text),  # the digest as JSON; NULL once it is pruned
    sa.UniqueConstraint("report", "after_id"),  # two senders cannot seal the same events, nor the same absence of any
    sqlite_autoincrement=True,
)
delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("digest_id", _ID, sa.ForeignKey("digest.id"), nullable=False, index=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("message", sa.LargeBinary, nullable=False),  # empty once it is pruned
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", _TIME, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("made_at", _TIME, nullable=False, server_default="0"),  # when it was put into the outbox
    sa.Column("settled_at", _TIME),  # when the last outcome was stored
    sa.Column("in_doubt", sa.Integer, nullable=False, server_default="0"),  # an earlier attempt may have arrived
    sqlite_autoincrement=True,
)
run = sa.Table(  # made by the first send; only this program reads it, so that the schema's version stays
    "run",
    metadata,
    sa.Column("report", sa.Text, primary_key=True),
    sa.Column("hour", _ID, primary_key=True),  # of the epoch
    sa.Column("at", _TIME, nullable=False),
    sqlite_with_rowid=False,
)
