-- What Citus needs, the same SQL distributed; on a PostgreSQL alone nothing changes. The functions ask in one statement for
-- distributed tables or for others, not for both; `distribute` spreads the events over the workers.

DO $$ BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'run this as a superuser';
    END IF;
END $$;

-- Returns the transactions that a worker has prepared and not committed yet: their rows are not to be seen, though the
-- coordinator has committed, and stores' chains go beyond them. That takes milliseconds, or after a crash until Citus has
-- seen to it (citus.recover_2pc_interval, a minute). Empty without Citus.
CREATE FUNCTION f2b.in_doubt() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE node record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN RETURN; END IF;
    FOR node IN EXECUTE $query$ SELECT * FROM run_command_on_workers(
        'SELECT coalesce(jsonb_agg(gid), ''[]'') FROM pg_prepared_xacts
         WHERE database = current_database() AND gid LIKE ''citus\_%''') $query$
    LOOP
        IF NOT node.success THEN
            RAISE EXCEPTION 'worker %:% is away: %', node.nodename, node.nodeport, node.result USING ERRCODE = '57P03';
        END IF;
        RETURN QUERY SELECT jsonb_array_elements_text(node.result::jsonb);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION f2b.in_doubt() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION f2b.in_doubt() TO f2b_digest, f2b_ingest;

CREATE OR REPLACE FUNCTION f2b.append(
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

SET LOCAL ROLE f2b_owner;
CREATE OR REPLACE FUNCTION f2b.tend(p_keep interval, p_reports jsonb) RETURNS SETOF text
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
RESET ROLE;

-- On a coordinator of Citus with workers: spreads the events over them, by store, if they are not yet, and lets the roles
-- in there. Called at each `fleet init`, also after a worker was added. Returns the number of workers; NULL without Citus.
--
-- Two roles connect to workers, as which the functions run: they may log in, but have no password, and no right to connect
-- to the coordinator. Hosts' roles are not known to workers, and what Citus lets everybody do (fill the disk with results
-- of queries, for one) is taken from them. Citus refuses row policies on distributed tables that look something up, such
-- as whose a store is: there the functions alone decide which rows a host may append.
CREATE FUNCTION f2b.distribute() RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE nodes integer; node record; routine regprocedure; part regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN RETURN NULL; END IF;
    EXECUTE 'SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards AND noderole = ''primary''' INTO nodes;
    IF nodes = 0 THEN RETURN 0; END IF;
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true),
        set_config('citus.enable_ddl_propagation', 'off', true);   -- hosts' roles, and what else the coordinator has, stay its own
    ALTER ROLE f2b_owner LOGIN;
    ALTER ROLE f2b_ingest LOGIN;
    FOR node IN EXECUTE $query$ SELECT * FROM run_command_on_workers($command$ DO $do$
        DECLARE role text; BEGIN
            SET LOCAL citus.enable_ddl_propagation TO off;
            FOREACH role IN ARRAY ARRAY['f2b_owner', 'f2b_ingest', 'f2b_digest', 'f2b_host'] LOOP
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                    EXECUTE format('CREATE ROLE %I', role);
                END IF;
                CONTINUE WHEN role = 'f2b_host';
                EXECUTE format('ALTER ROLE %I LOGIN', role);
                EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
            END LOOP;
            EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
        END $do$ $command$) $query$
    LOOP
        IF NOT node.success THEN
            RAISE EXCEPTION 'worker %:%: %', node.nodename, node.nodeport, node.result USING ERRCODE = '57P03';
        END IF;
    END LOOP;
    FOR routine IN SELECT d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE e.extname = 'citus' AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
        AND has_function_privilege('public', d.objid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', routine);
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO f2b_owner, f2b_ingest, f2b_digest', routine);
    END LOOP;
    PERFORM set_config('citus.enable_ddl_propagation', 'on', true);
    IF to_regclass('f2b.event') NOT IN (SELECT logicalrelid FROM pg_dist_partition) THEN
        DROP POLICY own_read ON f2b.event;
        DROP POLICY own_append ON f2b.event;
        DROP POLICY digest ON f2b.event;
        FOR part IN SELECT relid FROM pg_partition_tree('f2b.event') LOOP
            EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', part);
        END LOOP;
        PERFORM create_distributed_table('f2b.event', 'store_id', colocate_with => 'none');
        PERFORM truncate_local_data_after_distributing_table('f2b.event');
    END IF;
    RETURN nodes;
END $$;
REVOKE ALL ON FUNCTION f2b.distribute() FROM PUBLIC;

INSERT INTO f2b.version (number) VALUES (4);
