-- Replaces `append` of 0001. What another life of a host sent is looked for until the last one began, not until the
-- appending one did: a copy that died in its backlog, and went on when the original had a new life, was told twice. And a
-- host with one life that was cut off for longer than events are kept has its bans told: they counted as told already.
-- And a host has at most 1000 jails in a month, each of which costs every digest; what is of more is of `other-jails`.

DO $$ BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'run this as a superuser';
    END IF;
END $$;

SET LOCAL ROLE f2b_owner;
CREATE TABLE f2b.jail (
    host text NOT NULL REFERENCES f2b.host, jail text NOT NULL,
    seen date NOT NULL DEFAULT current_date,
    PRIMARY KEY (host, jail));
ALTER TABLE f2b.jail ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON f2b.jail TO f2b_ingest
    USING (host = (SELECT h.host FROM f2b.host h)) WITH CHECK (host = (SELECT h.host FROM f2b.host h));
GRANT SELECT, INSERT, UPDATE (seen), DELETE ON f2b.jail TO f2b_ingest;
RESET ROLE;

-- Appends a batch to a life's chain: the rows after p_after_seq up to p_upto, as objects of which unknown keys are
-- ignored and missing ones are NULL. Returns the chain's end.
CREATE OR REPLACE FUNCTION f2b.append(
    p_life uuid, p_after_seq bigint, p_after_batch uuid, p_batch uuid, p_upto bigint, p_rows jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s f2b.store; h f2b.host; n integer; low bigint; high bigint; kept_since float8; copies_until float8;
    others integer[]; ips text[]; ats float8[]; copies jsonb; doubts text[]; jails text[];
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
    -- What another life of this host sent already is not told twice; what came to pass after the last of them began (a day
    -- for clocks that are wrong) is each one's own. What arrived before `events_since` was dropped, so that nobody can say
    -- whether it was told: of a host with several lives it counts as told, of a host with one it is news.
    others := ARRAY(SELECT t.store_id FROM f2b.store t WHERE t.host = h.host AND t.store_id <> s.store_id);
    SELECT extract(epoch FROM max(t.began_at)) + 86400 INTO copies_until FROM f2b.store t WHERE t.host = h.host;
    SELECT array_agg(left(e.ip, 200)), array_agg(least(greatest(e.at, 0), 4102444800)), array_agg(DISTINCT left(e.jail, 200))
    INTO ips, ats, jails FROM jsonb_to_recordset(p_rows) AS e (ip text, at float8, jail text);
    UPDATE f2b.jail j SET seen = current_date WHERE j.host = h.host AND j.jail = ANY (jails) AND j.seen < current_date;
    DELETE FROM f2b.jail j WHERE j.host = h.host AND j.seen < current_date - 31;
    INSERT INTO f2b.jail (host, jail)
    SELECT h.host, name FROM unnest(jails) AS name
    WHERE NOT EXISTS (SELECT FROM f2b.jail j WHERE j.host = h.host AND j.jail = name)
    LIMIT greatest(1000 - (SELECT count(*) FROM f2b.jail j WHERE j.host = h.host), 0);
    jails := ARRAY(SELECT j.jail FROM f2b.jail j WHERE j.host = h.host AND j.jail = ANY (jails));
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
    SELECT s.store_id, r.seq, left(r.kind, 20), r.jail, left(r.ip, 200), r.at, r.recorded_at,
           r.failures, r.bantime, r.bancount, left(r.users, 4000), left(r.matches, 8000), left(r.source, 20),
           CASE WHEN r.history = 1 OR (others <> '{}' AND r.recorded_at < least(kept_since, copies_until)) THEN 1 ELSE 0 END,
           left(r.own, 200)
    FROM (
        -- A host must not give a digest numbers that no clock and no calendar has. (greatest() and least() pass over NULL.)
        SELECT e.seq, e.kind, e.ip, e.users, e.matches, e.source, e.history, e.own,
               CASE WHEN left(e.jail, 200) = ANY (jails) THEN left(e.jail, 200) ELSE 'other-jails' END AS jail,
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
        OR jsonb_build_array(left(r.ip, 200), r.at, r.jail, left(r.kind, 20))
           NOT IN (SELECT jsonb_array_elements(copies));
    UPDATE f2b.store t SET last_seq = p_upto, last_batch = p_batch, seen_at = clock_timestamp()
    WHERE t.store_id = s.store_id;
    INSERT INTO f2b.link AS l (store_id, day, batch, upto) VALUES (s.store_id, current_date, p_batch, p_upto)
    ON CONFLICT ON CONSTRAINT link_pkey DO UPDATE SET batch = excluded.batch, upto = excluded.upto;
    RETURN p_upto;
END $$;

INSERT INTO f2b.version (number) VALUES (5);
