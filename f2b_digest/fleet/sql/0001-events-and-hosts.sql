-- The centre of a fleet in PostgreSQL 15 or later: roles, hosts, their stores, their events, and the two functions that
-- are all a host may call. Run by a superuser, in one transaction, in a database of its own. Never changed once it was
-- released: a later version adds a file with the next number. The two functions' signatures never change.

DO $$ BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'run this as a superuser: it takes from hosts what PostgreSQL lets everybody do';
    END IF;
    IF current_database() IN ('postgres', 'template0', 'template1') THEN
        RAISE EXCEPTION 'a fleet needs a database of its own: createdb f2b_digest';
    END IF;
END $$;

-- ---- roles. They belong to the whole server: one fleet for each.

DO $$ DECLARE role text; BEGIN
    FOREACH role IN ARRAY ARRAY['f2b_owner', 'f2b_ingest', 'f2b_host'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'f2b_digest') THEN
        CREATE ROLE f2b_digest LOGIN;
    END IF;
END $$;
COMMENT ON ROLE f2b_owner IS 'f2b-digest: owns the tables; nobody logs in as it';
COMMENT ON ROLE f2b_ingest IS 'f2b-digest: owns the two functions of a host; row security holds for it';
COMMENT ON ROLE f2b_host IS 'f2b-digest: each host''s login is a member';
COMMENT ON ROLE f2b_digest IS 'f2b-digest: reads events';

-- ---- what PUBLIC may do by default, and a host must not: temporary tables and large objects fill the disk, advisory
-- locks and pg_sleep keep others waiting.

DO $$ DECLARE f regprocedure; BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO f2b_host, f2b_digest', current_database());
    -- A setting of a group's role does not reach its members: these stand at the database.
    EXECUTE format('ALTER DATABASE %I SET statement_timeout = %L', current_database(), '60s');
    EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = %L', current_database(), '60s');
    EXECUTE format('ALTER DATABASE %I SET temp_file_limit = %L', current_database(), '1GB'); -- only a superuser lifts it
    FOR f IN SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
        AND (p.proname ~ '^(lo_|pg_advisory|pg_try_advisory|pg_sleep)' OR p.proname IN ('lowrite', 'loread', 'pg_notify'))
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA f2b AUTHORIZATION f2b_owner;
GRANT USAGE ON SCHEMA f2b TO f2b_host, f2b_ingest, f2b_digest;

-- ---- tables

SET LOCAL ROLE f2b_owner;
CREATE TABLE f2b.version (number integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE f2b.centre (                          -- one row: what `fleet add` tells a host
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    address text NOT NULL,                         -- host:port, as hosts reach it
    ca text,                                       -- PEM; NULL: an authority that systems know
    events_since timestamptz NOT NULL DEFAULT '-infinity');  -- what arrived before was dropped
CREATE TABLE f2b.host (
    host text PRIMARY KEY CHECK (length(host) <= 253),       -- the admin's name for it, never the client's
    login name NOT NULL UNIQUE,                              -- random: pg_roles shows all logins to everybody
    enrolled_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    daily_rows integer NOT NULL DEFAULT 200000,              -- what a compromised host can cost
    day date NOT NULL DEFAULT current_date,
    rows_today integer NOT NULL DEFAULT 0);
CREATE TABLE f2b.store (                                     -- a life of a host's store: an unbroken chain of uploads
    store_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL REFERENCES f2b.host,
    life uuid NOT NULL,                                      -- drawn by the host: at first, and where it finds it is a copy
    first_seq bigint NOT NULL DEFAULT 0,                     -- it has what an earlier life uploaded up to here
    last_seq bigint NOT NULL DEFAULT 0,                      -- the end of its chain
    last_batch uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    began_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    skew double precision,                                   -- the host's clock minus ours, in seconds
    complete_until double precision,                         -- by the host's clock: what it recorded until then is here
    state jsonb NOT NULL DEFAULT '{}',                       -- what the host says of itself
    UNIQUE (host, life));
CREATE TABLE f2b.link (                                      -- of each chain, the last batch of a day: where a copy forks
    store_id integer NOT NULL, day date NOT NULL,
    batch uuid NOT NULL, upto bigint NOT NULL,
    PRIMARY KEY (store_id, day));
CREATE TABLE f2b.event (
    store_id integer NOT NULL,
    seq bigint NOT NULL,                                     -- the id in the host's store
    arrived timestamptz NOT NULL DEFAULT now(),              -- by our clock: no host's clock reaches another partition
    kind text NOT NULL, jail text NOT NULL, ip text NOT NULL,
    at double precision NOT NULL, recorded_at double precision NOT NULL,
    failures bigint, bantime bigint, bancount bigint,
    users text, matches text, source text NOT NULL, history smallint NOT NULL DEFAULT 0,
    own text,                                                -- why the host takes it for one of its own side
    PRIMARY KEY (store_id, seq, arrived)
) PARTITION BY RANGE (arrived);
CREATE TABLE f2b.event_rest PARTITION OF f2b.event DEFAULT;
CREATE INDEX event_who ON f2b.event (ip, at);

-- ---- row security: the second line behind the functions, for the role that they run as

ALTER TABLE f2b.host ENABLE ROW LEVEL SECURITY;
ALTER TABLE f2b.store ENABLE ROW LEVEL SECURITY;
ALTER TABLE f2b.link ENABLE ROW LEVEL SECURITY;
ALTER TABLE f2b.event ENABLE ROW LEVEL SECURITY;
ALTER TABLE f2b.event_rest ENABLE ROW LEVEL SECURITY;        -- its parent's policies do not hold when it is named itself
CREATE POLICY own ON f2b.host TO f2b_ingest USING (login = session_user) WITH CHECK (login = session_user);
CREATE POLICY own ON f2b.store TO f2b_ingest
    USING (host = (SELECT h.host FROM f2b.host h)) WITH CHECK (host = (SELECT h.host FROM f2b.host h));
CREATE POLICY own ON f2b.link TO f2b_ingest
    USING (store_id IN (SELECT s.store_id FROM f2b.store s)) WITH CHECK (store_id IN (SELECT s.store_id FROM f2b.store s));
CREATE POLICY own_read ON f2b.event FOR SELECT TO f2b_ingest
    USING (store_id IN (SELECT s.store_id FROM f2b.store s));
CREATE POLICY own_append ON f2b.event FOR INSERT TO f2b_ingest
    WITH CHECK (store_id IN (SELECT s.store_id FROM f2b.store s));
CREATE POLICY digest ON f2b.host FOR SELECT TO f2b_digest USING (true);
CREATE POLICY digest ON f2b.store FOR SELECT TO f2b_digest USING (true);
CREATE POLICY digest ON f2b.event FOR SELECT TO f2b_digest USING (true);
GRANT SELECT, UPDATE (day, rows_today) ON f2b.host TO f2b_ingest;
GRANT SELECT, INSERT, UPDATE (last_seq, last_batch, seen_at, skew, complete_until, state) ON f2b.store TO f2b_ingest;
GRANT SELECT, INSERT, UPDATE (batch, upto) ON f2b.link TO f2b_ingest;
GRANT SELECT, INSERT ON f2b.event TO f2b_ingest;
GRANT SELECT (events_since, one) ON f2b.centre TO f2b_ingest;
GRANT SELECT ON f2b.version, f2b.centre, f2b.host, f2b.store, f2b.event TO f2b_digest;
RESET ROLE;

-- ---- the two functions. Each ends in one transaction, and can be repeated.

-- Says where a life's chain ends, and notes what the host says of itself. For a life that is not known yet: with its
-- chain (batches of this and earlier lives, the newest first, as [life, batch, upto]) it begins where the newest batch
-- that is known here ends; without one, nothing is noted, and the answer has no `last_seq`.
CREATE FUNCTION f2b.hello(p_life uuid, p_chain jsonb, p_state jsonb)
RETURNS TABLE (host text, last_seq bigint, last_batch uuid, now double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE me text; lives integer; first bigint;
BEGIN
    SELECT h.host INTO me FROM f2b.host h WHERE h.login = session_user AND h.retired_at IS NULL FOR NO KEY UPDATE;
    IF me IS NULL THEN RAISE EXCEPTION 'this host is not enrolled' USING ERRCODE = 'F2B01'; END IF;
    IF pg_column_size(p_state) > 65536 OR pg_column_size(p_chain) > 524288 THEN
        RAISE EXCEPTION 'a host says at most 64 KiB of itself' USING ERRCODE = 'F2B03'; END IF;
    IF p_chain IS NOT NULL AND NOT EXISTS (SELECT FROM f2b.store s WHERE s.host = me AND s.life = p_life) THEN
        SELECT count(*) INTO lives FROM f2b.store s WHERE s.host = me AND s.began_at > pg_catalog.now() - interval '1 day';
        IF lives >= 20 THEN RAISE EXCEPTION 'more than 20 copies of a store in a day' USING ERRCODE = 'F2B03'; END IF;
        SELECT l.upto INTO first
        FROM jsonb_array_elements(p_chain) WITH ORDINALITY AS c (entry, place)
        JOIN f2b.store s ON s.host = me AND s.life = (c.entry->>0)::uuid
        JOIN f2b.link l ON l.store_id = s.store_id AND l.batch = (c.entry->>1)::uuid AND l.upto = (c.entry->>2)::bigint
        ORDER BY c.place LIMIT 1;
        INSERT INTO f2b.store (host, life, first_seq, last_seq) VALUES (me, p_life, coalesce(first, 0), coalesce(first, 0));
    END IF;
    UPDATE f2b.store s SET seen_at = clock_timestamp(), state = p_state,
        skew = (p_state->>'now')::float8 - extract(epoch FROM clock_timestamp()),
        complete_until = (p_state->>'complete_until')::float8
    WHERE s.host = me AND s.life = p_life;
    RETURN QUERY SELECT me, s.last_seq, s.last_batch, extract(epoch FROM clock_timestamp())::float8
        FROM (VALUES (1)) AS always LEFT JOIN f2b.store s ON s.host = me AND s.life = p_life;
END $$;

-- Appends a batch to a life's chain: the rows after p_after_seq up to p_upto, as objects of which unknown keys are
-- ignored and missing ones are NULL. Returns the chain's end.
CREATE FUNCTION f2b.append(
    p_life uuid, p_after_seq bigint, p_after_batch uuid, p_batch uuid, p_upto bigint, p_rows jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s f2b.store; h f2b.host; n integer; low bigint; high bigint; kept_since float8; copies_until float8;
    others integer[]; ips text[]; ats float8[]; copies jsonb; doubts text[];
BEGIN
    n := jsonb_array_length(p_rows);
    IF n > 5000 OR pg_column_size(p_rows) > 16777216 OR p_upto <= p_after_seq OR n = 0 THEN
        RAISE EXCEPTION 'a batch has 1 to 5000 rows and at most 16 MiB' USING ERRCODE = 'F2B03'; END IF;
    -- This lock stands before everything: two copies of a store append one after the other, and the second sees the first.
    SELECT * INTO h FROM f2b.host t WHERE t.login = session_user AND t.retired_at IS NULL FOR NO KEY UPDATE;
    IF h.host IS NULL THEN RAISE EXCEPTION 'this host is not enrolled' USING ERRCODE = 'F2B01'; END IF;
    SELECT * INTO s FROM f2b.store t WHERE t.host = h.host AND t.life = p_life FOR NO KEY UPDATE;
    IF s.store_id IS NULL THEN RAISE EXCEPTION 'say hello first' USING ERRCODE = 'F2B02'; END IF;
    IF s.last_batch = p_batch THEN RETURN s.last_seq; END IF;      -- the answer to an earlier attempt was lost
    IF s.last_batch <> p_after_batch OR s.last_seq <> p_after_seq THEN
        RAISE EXCEPTION 'the chain ends elsewhere' USING ERRCODE = 'F2B02'; END IF;
    SELECT min((r->>'seq')::bigint), max((r->>'seq')::bigint) INTO low, high FROM jsonb_array_elements(p_rows) r;
    IF low <= p_after_seq OR high > p_upto THEN
        RAISE EXCEPTION 'a row is not in its batch''s range' USING ERRCODE = 'F2B03'; END IF;
    IF EXISTS (SELECT FROM jsonb_array_elements(p_rows) r                -- a worker would refuse it with another state
               WHERE num_nulls(r->>'kind', r->>'jail', r->>'ip', r->>'at', r->>'recorded_at', r->>'source') > 0) THEN
        RAISE EXCEPTION 'a row lacks what makes an event' USING ERRCODE = 'not_null_violation'; END IF;
    UPDATE f2b.host t SET day = current_date,
        rows_today = CASE WHEN t.day = current_date THEN t.rows_today ELSE 0 END + n
    WHERE t.host = h.host RETURNING * INTO h;
    IF h.rows_today > h.daily_rows THEN
        RAISE EXCEPTION 'this host may send % rows a day', h.daily_rows USING ERRCODE = 'F2B04'; END IF;
    SELECT extract(epoch FROM c.events_since) INTO kept_since FROM f2b.centre c;
    -- What another life of this host sent already is not told twice; what came to pass after this one began (a day for
    -- clocks that are wrong) is its own.
    others := ARRAY(SELECT t.store_id FROM f2b.store t WHERE t.host = h.host AND t.store_id <> s.store_id);
    copies_until := extract(epoch FROM s.began_at) + 86400;
    SELECT array_agg(left(e.ip, 200)), array_agg(least(greatest(e.at, 0), 4102444800)) INTO ips, ats
    FROM jsonb_to_recordset(p_rows) AS e (ip text, at float8);
    IF others <> '{}' AND copies_until >= ANY (ats) THEN
        doubts := ARRAY(SELECT f2b.in_doubt());
        WHILE doubts <> '{}' LOOP
            IF clock_timestamp() > transaction_timestamp() + interval '5 seconds' THEN
                RAISE EXCEPTION 'a worker has not committed yet what was sent before' USING ERRCODE = '57P03'; END IF;
            doubts := ARRAY(SELECT d FROM f2b.in_doubt() d WHERE d = ANY (doubts));
        END LOOP;
        SELECT jsonb_agg(DISTINCT jsonb_build_array(o.ip, o.at, o.jail, o.kind)) INTO copies
        FROM unnest(ips, ats) AS v (ip, at) JOIN f2b.event o ON o.ip = v.ip AND o.at = v.at
        WHERE o.store_id = ANY (others);
    END IF;
    INSERT INTO f2b.event (store_id, seq, kind, jail, ip, at, recorded_at, failures, bantime, bancount, users, matches,
                           source, history, own)
    SELECT s.store_id, r.seq, left(r.kind, 20), left(r.jail, 200), left(r.ip, 200), r.at, r.recorded_at,
           r.failures, r.bantime, r.bancount, left(r.users, 4000), left(r.matches, 8000), left(r.source, 20),
           CASE WHEN r.history = 1 OR r.recorded_at < kept_since THEN 1 ELSE 0 END, left(r.own, 200)
    FROM (
        -- A host must not give a digest numbers that no clock and no calendar has. (greatest() and least() pass over NULL.)
        SELECT e.seq, e.kind, e.jail, e.ip, e.users, e.matches, e.source, e.history, e.own,
               CASE WHEN e.at IS NOT NULL THEN least(greatest(e.at, 0), 4102444800) END AS at,
               CASE WHEN e.recorded_at IS NOT NULL THEN least(greatest(e.recorded_at, 0), 4102444800) END AS recorded_at,
               CASE WHEN e.failures IS NOT NULL THEN least(greatest(e.failures, 0), 1000000000) END AS failures,
               CASE WHEN e.bantime IS NOT NULL THEN least(greatest(e.bantime, -1), 10000000000) END AS bantime,
               CASE WHEN e.bancount IS NOT NULL THEN least(greatest(e.bancount, 0), 1000000000) END AS bancount
        FROM jsonb_to_recordset(p_rows) AS e (seq bigint, kind text, jail text, ip text, at float8, recorded_at float8,
             failures bigint, bantime bigint, bancount bigint, users text, matches text, source text, history smallint,
             own text)
    ) AS r
    WHERE copies IS NULL OR r.at > copies_until
        OR jsonb_build_array(left(r.ip, 200), r.at, left(r.jail, 200), left(r.kind, 20))
           NOT IN (SELECT jsonb_array_elements(copies));
    UPDATE f2b.store t SET last_seq = p_upto, last_batch = p_batch, seen_at = clock_timestamp()
    WHERE t.store_id = s.store_id;
    INSERT INTO f2b.link AS l (store_id, day, batch, upto) VALUES (s.store_id, current_date, p_batch, p_upto)
    ON CONFLICT ON CONSTRAINT link_pkey DO UPDATE SET batch = excluded.batch, upto = excluded.upto;
    RETURN p_upto;
END $$;
ALTER FUNCTION f2b.hello(uuid, jsonb, jsonb) OWNER TO f2b_ingest;
ALTER FUNCTION f2b.append(uuid, bigint, uuid, uuid, bigint, jsonb) OWNER TO f2b_ingest;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA f2b FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA f2b TO f2b_host;

INSERT INTO f2b.version (number) VALUES (1);
