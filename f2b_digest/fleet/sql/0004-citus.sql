-- What Citus needs beside functions that ask in one statement for distributed tables or for others, not for both;
-- `distribute` spreads the events over the workers. On a PostgreSQL alone nothing changes.

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
