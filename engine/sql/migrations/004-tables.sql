-- Tables of the application: their versions and their trail, columns named, by statement triggers that know no application's name.
-- count the versions of a table's rows in its column `version`
CREATE PROCEDURE keep_version(tab NAME) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE OR REPLACE TRIGGER %I BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION next_version()',
    tab || '_version', tab);
END $$;

-- what the server says of the request: login, request or address. Releases up to 1.0.0 say it under their own name, which is also the
-- first word of application_name; they may still serve while this is there
CREATE FUNCTION request_setting(name TEXT) RETURNS TEXT LANGUAGE SQL STABLE AS $$
  SELECT coalesce(nullif(current_setting('engine.' || name, TRUE), ''),
    nullif(current_setting(split_part(current_setting('application_name'), ' ', 1) || '.' || name, TRUE), ''))
$$;

-- keep the trail of a table: of the columns that are named, and of no other. One statement writes the rows of one statement
CREATE OR REPLACE PROCEDURE keep_trail(tab NAME, key NAME, VARIADIC kept NAME[]) LANGUAGE plpgsql AS $keep$
DECLARE
  old_row TEXT := (SELECT string_agg(format('%L, o.%I', name, name), ', ' ORDER BY n) FROM unnest(kept) WITH ORDINALITY AS k(name, n));
  new_row TEXT := (SELECT string_agg(format('%L, n.%I', name, name), ', ' ORDER BY n) FROM unnest(kept) WITH ORDINALITY AS k(name, n));
BEGIN
  EXECUTE format($sql$
CREATE OR REPLACE FUNCTION %1$I() RETURNS TRIGGER LANGUAGE plpgsql AS $body$
DECLARE
  the_login TEXT := request_setting('login');
  the_request TEXT := request_setting('request');
  the_address TEXT := request_setting('address');
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO Audit(login, request, address, event, tab, key, after)
    SELECT the_login, the_request, the_address, TG_OP, TG_TABLE_NAME, n.%2$I, jsonb_build_object(%4$s) FROM new_rows AS n;
  ELSIF TG_OP = 'UPDATE' THEN  -- a row whose key changes is two rows here
    INSERT INTO Audit(login, request, address, event, tab, key, before, after)
    SELECT the_login, the_request, the_address, TG_OP, TG_TABLE_NAME, coalesce(n.%2$I, o.%2$I),
      CASE WHEN o.%2$I IS NOT NULL THEN jsonb_build_object(%3$s) END,
      CASE WHEN n.%2$I IS NOT NULL THEN jsonb_build_object(%4$s) END
    FROM old_rows AS o FULL JOIN new_rows AS n ON n.%2$I = o.%2$I;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO Audit(login, request, address, event, tab, key, before)
    SELECT the_login, the_request, the_address, TG_OP, TG_TABLE_NAME, o.%2$I, jsonb_build_object(%3$s) FROM old_rows AS o;
  ELSE
    INSERT INTO Audit(login, request, address, event, tab) VALUES (the_login, the_request, the_address, TG_OP, TG_TABLE_NAME);
  END IF;
  RETURN NULL;
END $body$;
CREATE OR REPLACE TRIGGER audit_insert AFTER INSERT ON %5$I
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
CREATE OR REPLACE TRIGGER audit_update AFTER UPDATE ON %5$I
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
CREATE OR REPLACE TRIGGER audit_delete AFTER DELETE ON %5$I
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
CREATE OR REPLACE TRIGGER audit_truncate AFTER TRUNCATE ON %5$I FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
$sql$, 'audit_' || tab, key, old_row, new_row, tab);
END $keep$;

-- functions that an earlier keep_trail made
DO $$
DECLARE made OID;
BEGIN
  FOR made IN SELECT DISTINCT p.oid FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = tgfoid
    WHERE tgname = 'audit_insert' AND pronamespace = current_schema()::regnamespace
  LOOP
    EXECUTE regexp_replace(pg_get_functiondef(made),
      'nullif\(current_setting\(''\w+\.(login|request|address)'', TRUE\), ''''\)', 'request_setting(''\1'')', 'g');
  END LOOP;
END $$;

-- tables whose trail 1.0.0 kept by row triggers: as it did, all columns but the hash of a password
DO $$
DECLARE of RECORD;
BEGIN
  FOR of IN
    SELECT relname AS tab, split_part(encode(tgargs, 'escape'), '\000', 1) AS key, (
      SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
      WHERE attrelid = tgrelid AND attnum > 0 AND NOT attisdropped AND attname <> 'pword') AS kept
    FROM pg_trigger JOIN pg_class AS c ON c.oid = tgrelid
    WHERE tgfoid = to_regproc('audit_change') AND tgnargs = 1
  LOOP
    CALL keep_trail(of.tab, of.key, VARIADIC of.kept);
  END LOOP;
END $$;
DROP FUNCTION IF EXISTS audit_change CASCADE;  -- and its triggers
