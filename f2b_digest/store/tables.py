"""The store's tables as SQLAlchemy sees them. No query stands here, and the DDL of `event` is the recorder's."""

from typing import NamedTuple

import sqlalchemy as sa

from f2b_digest import recorder

metadata = sa.MetaData()
event = sa.Table(  # made by the recorder; a test compares the two
    "event",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("jail", sa.Text, nullable=False),
    sa.Column("ip", sa.Text, nullable=False),
    sa.Column("at", sa.REAL, nullable=False),
    sa.Column("recorded_at", sa.REAL, nullable=False),
    sa.Column("failures", sa.Integer),
    sa.Column("bantime", sa.Integer),
    sa.Column("bancount", sa.Integer),
    sa.Column("users", sa.Text),
    sa.Column("matches", sa.Text),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("history", sa.Integer, nullable=False),
    sa.UniqueConstraint("jail", "ip", "kind", "at", "host"),
)
digest = sa.Table(
    "digest",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.Text, nullable=False, unique=True),
    sa.Column("report", sa.Text, nullable=False),
    sa.Column("after_id", sa.Integer, nullable=False),  # the digest before it, or 0
    sa.Column("first_id", sa.Integer, nullable=False),
    sa.Column("last_id", sa.Integer, nullable=False),
    sa.Column("period_start", sa.REAL, nullable=False),
    sa.Column("period_end", sa.REAL, nullable=False),
    sa.Column("sealed_at", sa.REAL, nullable=False),
    sa.Column("bans", sa.Integer, nullable=False),
    sa.Column("document", sa.Text),  # the digest as JSON; NULL once it is pruned
    sa.UniqueConstraint("report", "after_id"),  # two senders cannot seal the same events, or the same lack of any
    sqlite_autoincrement=True,
)
delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest_id", sa.ForeignKey("digest.id"), nullable=False, index=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("message", sa.LargeBinary, nullable=False),  # empty once it is pruned
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.REAL, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("made_at", sa.REAL, nullable=False, server_default="0"),  # when it was put into the outbox
    sa.Column("settled_at", sa.REAL),  # when the last outcome was stored
    sa.Column("in_doubt", sa.Integer, nullable=False, server_default="0"),  # an earlier attempt may have arrived
    sqlite_autoincrement=True,
)


class Step(NamedTuple):
    """From one schema version to the next, as statements."""

    events: tuple[str, ...] = ()
    """Of every store. The table of events does not change: an older recorder goes on appending."""
    archive: tuple[str, ...] = ()
    """Of a store that has tables of digests and deliveries; where there are none yet, they are made as they are now."""


UPGRADES = {
    1: Step(
        archive=(
            "ALTER TABLE digest ADD COLUMN document TEXT",
            "ALTER TABLE delivery RENAME COLUMN sent_at TO settled_at",
            "ALTER TABLE delivery ADD COLUMN made_at REAL NOT NULL DEFAULT 0",
            "ALTER TABLE delivery ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0",
            "UPDATE delivery SET made_at = (SELECT sealed_at FROM digest WHERE digest.id = digest_id)",
        )
    ),
    2: Step(events=recorder.EVENT_INDEXES[:2]),
    3: Step(events=recorder.EVENT_INDEXES[2:]),
}
"""By the version that each step starts from."""

VIEWS = {
    1: (
        "CREATE TEMP VIEW digest AS SELECT *, NULL AS document FROM main.digest",
        """
        CREATE TEMP VIEW delivery AS
        SELECT id, digest_id, channel, recipient, message, identity, status, attempts, next_at, error,
               (SELECT sealed_at FROM main.digest WHERE digest.id = digest_id) AS made_at, sent_at AS settled_at,
               0 AS in_doubt
        FROM main.delivery
        """,
    )
}
"""By version, how the archive of an older store is read as if it were of this version, where nothing may be written."""
