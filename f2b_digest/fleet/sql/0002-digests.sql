-- The centre's own digests: the outbox and archive, the seal as a vector of stores, and the care of partitions.

DO $$ BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'run this as a superuser';
    END IF;
END $$;
SET LOCAL ROLE f2b_owner;
-- The three tables that a host's SQLite store has as well; see f2b_digest/store/tables.py.
CREATE TABLE f2b.digest (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid text NOT NULL UNIQUE,
    report text NOT NULL,
    after_id bigint NOT NULL,                      -- the digest before it, or 0
    first_id bigint NOT NULL, last_id bigint NOT NULL,  -- 1 to the number of events taken; the vector says which
    period_start double precision NOT NULL, period_end double precision NOT NULL, sealed_at double precision NOT NULL,
    bans bigint NOT NULL,
    document text,
    UNIQUE (report, after_id));                    -- two senders cannot seal the same events
CREATE TABLE f2b.delivery (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest_id bigint NOT NULL REFERENCES f2b.digest,
    channel text NOT NULL, recipient text NOT NULL, message bytea NOT NULL, identity text NOT NULL,
    status text NOT NULL, attempts integer NOT NULL, next_at double precision NOT NULL, error text,
    made_at double precision NOT NULL DEFAULT 0, settled_at double precision, in_doubt integer NOT NULL DEFAULT 0);
CREATE INDEX delivery_digest ON f2b.delivery (digest_id);
CREATE INDEX delivery_status ON f2b.delivery (status);
CREATE TABLE f2b.run (
    report text NOT NULL, hour bigint NOT NULL, at double precision NOT NULL, PRIMARY KEY (report, hour));

CREATE TABLE f2b.taken (                           -- the seal: of each store, the events after one up to another
    digest_id bigint NOT NULL REFERENCES f2b.digest,
    store_id integer NOT NULL, after_seq bigint NOT NULL, upto_seq bigint NOT NULL,
    PRIMARY KEY (digest_id, store_id));
CREATE TABLE f2b.mark (                            -- how far each report has come: the sum of its `taken`
    report text NOT NULL, store_id integer NOT NULL, seq bigint NOT NULL, PRIMARY KEY (report, store_id));

GRANT SELECT, INSERT, UPDATE (document) ON f2b.digest TO f2b_digest;
GRANT SELECT, INSERT, UPDATE ON f2b.delivery, f2b.mark TO f2b_digest;
GRANT SELECT, INSERT ON f2b.taken TO f2b_digest;
GRANT SELECT, INSERT, DELETE ON f2b.run TO f2b_digest;

-- Makes the partitions of the next months, and drops those that are older than p_keep (30 days at the least) and that
-- every report has told: p_reports holds, by report, the stores that it takes in. Returns what it did. What arrives
-- where there is no partition goes to event_rest, and stays there.
CREATE FUNCTION f2b.tend(p_keep interval, p_reports jsonb) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE since timestamptz; until timestamptz; name text; part record; lasts jsonb;
BEGIN
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);  -- nothing, without Citus
    PERFORM FROM f2b.centre FOR NO KEY UPDATE;                     -- two senders wait for each other; appends go on
    FOR i IN 0..2 LOOP
        since := (date_trunc('month', now() AT TIME ZONE 'UTC') + i * interval '1 month') AT TIME ZONE 'UTC';
        until := (date_trunc('month', now() AT TIME ZONE 'UTC') + (i + 1) * interval '1 month') AT TIME ZONE 'UTC';
        name := 'event_' || to_char(since AT TIME ZONE 'UTC', 'YYYYMM');
        CONTINUE WHEN to_regclass('f2b.' || name) IS NOT NULL
            OR EXISTS (SELECT 1 FROM f2b.event_rest r WHERE r.arrived >= since AND r.arrived < until);
        EXECUTE format('CREATE TABLE f2b.%I PARTITION OF f2b.event FOR VALUES FROM (%L) TO (%L)', name, since, until);
        IF (SELECT relrowsecurity FROM pg_class WHERE oid = 'f2b.event'::regclass) THEN
            EXECUTE format('ALTER TABLE f2b.%I ENABLE ROW LEVEL SECURITY', name);
        END IF;
        RETURN NEXT 'made ' || name;
    END LOOP;
    FOR part IN
        SELECT c.relname, (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']+)''\)'))[1]::timestamptz AS until
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'f2b.event'::regclass ORDER BY 2
    LOOP
        CONTINUE WHEN part.until IS NULL OR part.until > now() - greatest(p_keep, interval '30 days');
        EXECUTE format(
            'SELECT coalesce(jsonb_object_agg(store_id, last), ''{}'')
             FROM (SELECT store_id, max(seq) AS last FROM f2b.%I WHERE history = 0 GROUP BY 1) e', part.relname) INTO lasts;
        EXIT WHEN EXISTS (                                         -- nothing younger than what is kept is dropped
            SELECT FROM jsonb_each(p_reports) w CROSS JOIN jsonb_array_elements_text(w.value) r (store)
            JOIN jsonb_each_text(lasts) e ON e.key = r.store
            LEFT JOIN f2b.mark m ON m.report = w.key AND m.store_id = r.store::integer
            WHERE coalesce(m.seq, 0) < e.value::bigint);
        EXECUTE format('DROP TABLE f2b.%I', part.relname);
        UPDATE f2b.centre SET events_since = greatest(events_since, part.until);
        RETURN NEXT 'dropped ' || part.relname;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION f2b.tend(interval, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION f2b.tend(interval, jsonb) TO f2b_digest;
SELECT f2b.tend(interval '100 years', '{}'::jsonb);
RESET ROLE;

INSERT INTO f2b.version (number) VALUES (2);
