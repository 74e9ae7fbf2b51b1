-- The engine's schema as of today, readable, with its reasons; the application's comes after. migrations/ leads there step by step; a
-- test holds both equal. An application's create.sql calls keep_version and keep_trail for its tables.

-- which schema this is, by component, engine and application, and by the migrations that it stands for (record
-- writes them at the end); /ready compares
CREATE TABLE Schema_Version(
  version INT,
  name TEXT COLLATE "C" NOT NULL,
  checksum TEXT COLLATE "C" NOT NULL,  -- sha256 of the file but its last line feed
  applied TIMESTAMPTZ NOT NULL DEFAULT now(),
  component TEXT COLLATE "C",
  PRIMARY KEY (component, version)
);

-- each change of a row makes a new version of it: the ETag of the resource (unlike xmin it survives dump and restore)
CREATE FUNCTION next_version() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  NEW.version := OLD.version + 1;
  RETURN NEW;
END $$;

-- count the versions of a table's rows in its column `version`
CREATE PROCEDURE keep_version(tab NAME) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE OR REPLACE TRIGGER %I BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION next_version()',
    tab || '_version', tab);
END $$;

-- attempts at a password, counted exactly for all servers; worth nothing after a crash, hence not logged
CREATE UNLOGGED TABLE Attempt(
  subject TEXT COLLATE "C" PRIMARY KEY,
  number INT NOT NULL,
  until TIMESTAMPTZ NOT NULL
);
CREATE INDEX attempt_until ON Attempt(until);

-- the audit trail: every change of the tables that keep one, by whoever made it, and authentication events. Rows are read and sealed in
-- the order (xid, aid) below the lowest running transaction: no row can appear later before those
CREATE TABLE Audit(
  aid BIGSERIAL,
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  xid BIGINT NOT NULL DEFAULT pg_current_xact_id()::TEXT::BIGINT,  -- of the change's transaction
  login TEXT COLLATE "C",  -- of the API's user, if one did it
  role TEXT COLLATE "C" NOT NULL DEFAULT session_user,  -- of the database
  request TEXT COLLATE "C",
  address TEXT COLLATE "C",
  event TEXT COLLATE "C" NOT NULL,  -- INSERT UPDATE DELETE TRUNCATE, or LOGIN LOGIN_FAILED LOGOUT REFUSED REFUSED_MORE
  tab TEXT COLLATE "C",
  key TEXT COLLATE "C",
  before JSONB,
  after JSONB,
  PRIMARY KEY (xid, aid)
);
CREATE INDEX audit_login ON Audit(login, xid, aid) WHERE login IS NOT NULL;
CREATE INDEX audit_tab ON Audit(tab, key, xid, aid) WHERE tab IS NOT NULL;
CREATE INDEX audit_at ON Audit USING brin(at);

-- each cluster numbers its transactions from the start, so a trail that was restored into another one begins a new era there:
-- rows from `first` on were written on `system`
CREATE TABLE Era(
  first BIGINT PRIMARY KEY,  -- an aid
  system BIGINT NOT NULL  -- system_identifier of pg_control_system()
);

-- eras and their rows; settled: transactions below it have ended, so that their order is final
CREATE VIEW Trail_Era AS
SELECT first, lead(first, 1, 9223372036854775807) OVER eras - 1 AS last, system,
  CASE WHEN lead(first) OVER eras IS NULL THEN pg_snapshot_xmin(pg_current_snapshot())::TEXT::BIGINT
    ELSE 9223372036854775807 END AS settled
FROM (
  SELECT first, system FROM Era
  UNION ALL
  SELECT 0, system_identifier FROM pg_control_system() WHERE NOT EXISTS (SELECT FROM Era)
) AS era
WINDOW eras AS (ORDER BY first);

-- the era in which the trail goes on after a row, and the row there after which it does
CREATE FUNCTION trail_from(after_xid BIGINT, after_aid BIGINT)
RETURNS TABLE(first BIGINT, last BIGINT, system BIGINT, settled BIGINT, xid BIGINT, aid BIGINT) LANGUAGE SQL STABLE AS $$
  SELECT e.* FROM (
    SELECT first, last, system, settled, CASE WHEN after_aid BETWEEN first AND last THEN after_xid ELSE 0 END AS xid,
      CASE WHEN after_aid BETWEEN first AND last THEN after_aid ELSE 0 END AS aid
    FROM Trail_Era) AS e
  WHERE last >= coalesce(after_aid, 0) AND (settled < 9223372036854775807 OR EXISTS (
    SELECT FROM Audit AS a WHERE a.aid BETWEEN e.first AND e.last AND (a.xid, a.aid) > (e.xid, e.aid)))
  ORDER BY first LIMIT 1
$$;

-- what the server says of the request: login, request or address. Releases up to 1.0.0 say it under their own name, which is also the
-- first word of application_name; they may still serve while this is there
CREATE FUNCTION request_setting(name TEXT) RETURNS TEXT LANGUAGE SQL STABLE AS $$
  SELECT coalesce(nullif(current_setting('engine.' || name, TRUE), ''),
    nullif(current_setting(split_part(current_setting('application_name'), ' ', 1) || '.' || name, TRUE), ''))
$$;

-- keep the trail of a table: of the columns that are named, and of no other. One statement writes the rows of one statement
CREATE PROCEDURE keep_trail(tab NAME, key NAME, VARIADIC kept NAME[]) LANGUAGE plpgsql AS $keep$
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

-- the seal of the trail: each row's hash covers the row and the hash before it. Sealing runs a little after the changes,
-- so that writers never queue
CREATE TABLE Seal(
  link BIGINT PRIMARY KEY,
  aid BIGINT NOT NULL CONSTRAINT seal_aid_key UNIQUE,
  hash BYTEA NOT NULL,
  xid BIGINT NOT NULL
);

CREATE FUNCTION audit_hash(previous BYTEA, one Audit) RETURNS BYTEA LANGUAGE SQL STABLE AS $$
  SELECT sha256(coalesce(previous, '') || convert_to(jsonb_build_array(
    one.aid, extract(epoch FROM one.at), one.xid, one.login, one.role, one.request, one.address,
    one.event, one.tab, one.key, one.before, one.after)::TEXT, 'UTF8'))
$$;

-- as the owner: the application's role adds nothing to Seal and Era by itself
CREATE FUNCTION seal_audit(most INT) RETURNS INT LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  cluster CONSTANT BIGINT := (SELECT system_identifier FROM pg_control_system());
  latest Seal;
  one Audit;
  sealed INT := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('Seal')) THEN
    RETURN 0;  -- another server is at it
  END IF;
  IF NOT EXISTS (SELECT FROM Era) THEN
    INSERT INTO Era VALUES (0, cluster);
  ELSIF cluster <> (SELECT system FROM Era ORDER BY first DESC LIMIT 1) THEN
    -- what is sealed, or of a transaction that is not yet, was written elsewhere
    INSERT INTO Era SELECT 1 + greatest((SELECT max(aid) FROM Seal), (SELECT max(aid) FROM Audit
      WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())::TEXT::BIGINT), 0), cluster
    ON CONFLICT (first) DO UPDATE SET system = EXCLUDED.system;
  END IF;
  SELECT * INTO latest FROM Seal ORDER BY link DESC LIMIT 1;
  FOR one IN
    SELECT a.* FROM trail_from(latest.xid, latest.aid) AS e CROSS JOIN LATERAL (
      SELECT * FROM Audit WHERE aid BETWEEN e.first AND e.last AND (xid, aid) > (e.xid, e.aid) AND xid < e.settled
      ORDER BY xid, aid LIMIT most) AS a
  LOOP
    latest := ROW(coalesce(latest.link, 0) + 1, one.aid, audit_hash(latest.hash, one), one.xid);
    INSERT INTO Seal VALUES (latest.*);
    sealed := sealed + 1;
  END LOOP;
  RETURN sealed;
END $$;
-- tables of this schema alone, whoever calls
DO $$ BEGIN EXECUTE format('ALTER FUNCTION seal_audit(INT) SET search_path = %I, pg_temp', current_schema()); END $$;

-- the trail only grows: nobody changes it by an ordinary statement, not even its owner
CREATE FUNCTION only_grows() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% only grows', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON Audit EXECUTE FUNCTION only_grows();
CREATE TRIGGER seal_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON Seal EXECUTE FUNCTION only_grows();

-- answers to requests that came with an Idempotency-Key, for 24 hours; status is null while the request runs
CREATE TABLE Answer(
  key TEXT COLLATE "C" PRIMARY KEY,  -- digest of user, route and key
  fingerprint TEXT COLLATE "C" NOT NULL,  -- digest of the request
  status INT,
  headers JSON,
  body BYTEA,
  made TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX answer_made ON Answer(made);

-- migrations
INSERT INTO Schema_Version(component, version, name, checksum) VALUES
  ('engine', 1, 'components', '7dd7352a6f80cb1f47333c4f18c726640591a05db5c123c1401c85f1f9f6012b'),
  ('engine', 2, 'initial', 'ccb8313438cbc40851874a600e10d8c1c0183a7f19e8a75504f9090b0e72f50c'),
  ('engine', 3, 'trail', '678de4bc49afacf32ca40bebdd1e5befaa2c93a07e757e2cc42df99113e69a48'),
  ('engine', 4, 'tables', '3533d0aed4e0cecbcfed8fdba55c7c035c1e5ab409010370a44b0bc3281e9f3c');
