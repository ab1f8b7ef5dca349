"""DDL of the tables that the first send makes: digests, deliveries, runs. That of `event` is the recorder's."""

EVENT, DIGEST, DELIVERY, RUN = "event", "digest", "delivery", "run"
DDL = {
    DIGEST: (
        """
CREATE TABLE IF NOT EXISTS digest (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL,
    report TEXT NOT NULL,
    after_id INTEGER NOT NULL,  -- the digest before it, or 0
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    period_start REAL NOT NULL,
    period_end REAL NOT NULL,
    sealed_at REAL NOT NULL,
    bans INTEGER NOT NULL,
    document TEXT,  -- the digest as JSON; NULL once it is pruned
    UNIQUE (report, after_id),  -- two senders cannot seal the same events, nor the same absence of any
    UNIQUE (uuid)
)
""",
    ),
    DELIVERY: (
        """
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    digest_id INTEGER NOT NULL REFERENCES digest (id),
    channel TEXT NOT NULL,
    recipient TEXT NOT NULL,
    message BLOB NOT NULL,  -- empty once it is pruned
    identity TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at REAL NOT NULL,
    error TEXT,
    made_at REAL NOT NULL DEFAULT 0,  -- when it was put into the outbox
    settled_at REAL,  -- when the last outcome was stored
    in_doubt INTEGER NOT NULL DEFAULT 0  -- an earlier attempt may have arrived
)
""",
        "CREATE INDEX IF NOT EXISTS ix_delivery_digest_id ON delivery (digest_id)",
        "CREATE INDEX IF NOT EXISTS ix_delivery_status ON delivery (status)",
    ),
    # Only this program reads it, so that the schema's version stays.
    RUN: (
        """
CREATE TABLE IF NOT EXISTS run (
    report TEXT NOT NULL,
    hour INTEGER NOT NULL,  -- of the epoch
    at REAL NOT NULL,
    PRIMARY KEY (report, hour)
) WITHOUT ROWID
""",
    ),
}
"""By table, in the order in which their rows refer to each other. Times are UTC epoch seconds."""
