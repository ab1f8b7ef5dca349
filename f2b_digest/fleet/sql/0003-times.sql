-- When jails banned, packed: what a digest is compared with, without reading each event again. Kept at each seal, and
-- made again from the events where it is missing: nothing is lost with it.

DO $$ BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'run this as a superuser';
    END IF;
END $$;
SET LOCAL ROLE f2b_owner;
CREATE TABLE f2b.times (
    store_id integer NOT NULL,
    after_seq bigint NOT NULL, upto_seq bigint NOT NULL,     -- the events after one up to another; ranges do not overlap
    jail text NOT NULL,
    first_arrived timestamptz NOT NULL, last_arrived timestamptz NOT NULL,
    events bigint NOT NULL,                                  -- bans and their final durations
    times bytea NOT NULL,                                    -- float8send of each ban's `at`, in order
    -- Of two senders that keep the same events at the same time, one is refused.
    PRIMARY KEY (store_id, after_seq, jail));
ALTER TABLE f2b.times ALTER COLUMN times SET STORAGE EXTERNAL;   -- it would not shrink
GRANT SELECT, INSERT, DELETE ON f2b.times TO f2b_digest;
RESET ROLE;

INSERT INTO f2b.version (number) VALUES (3);
