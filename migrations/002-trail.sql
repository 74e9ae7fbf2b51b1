-- The trail: an order in which nothing appears late, columns named, statement triggers, narrow rights.
DROP TRIGGER stuff_audit ON Stuff;
DROP TRIGGER stuff_audit_all ON Stuff;
DROP TRIGGER utilisateur_audit ON Utilisateur;
DROP TRIGGER utilisateur_audit_all ON Utilisateur;
DROP TRIGGER IF EXISTS owned_audit ON Owned;  -- deploy/citus.sql has dropped them
DROP TRIGGER IF EXISTS owned_audit_all ON Owned;
DROP FUNCTION audit_change, seal_audit;
DROP INDEX audit_login, audit_tab, audit_xid;
ALTER TABLE Audit DROP CONSTRAINT audit_pkey, ADD PRIMARY KEY (xid, aid);
CREATE INDEX audit_login ON Audit(login, xid, aid) WHERE login IS NOT NULL;
CREATE INDEX audit_tab ON Audit(tab, key, xid, aid) WHERE tab IS NOT NULL;

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

-- keep the trail of a table: of the columns that are named, and of no other. One statement writes the rows of one statement
CREATE PROCEDURE keep_trail(tab NAME, key NAME, VARIADIC kept NAME[]) LANGUAGE plpgsql AS $keep$
DECLARE
  old_row TEXT := (SELECT string_agg(format('%L, o.%I', name, name), ', ' ORDER BY n) FROM unnest(kept) WITH ORDINALITY AS k(name, n));
  new_row TEXT := (SELECT string_agg(format('%L, n.%I', name, name), ', ' ORDER BY n) FROM unnest(kept) WITH ORDINALITY AS k(name, n));
BEGIN
  EXECUTE format($sql$
CREATE OR REPLACE FUNCTION %1$I() RETURNS TRIGGER LANGUAGE plpgsql AS $body$
DECLARE
  the_login TEXT := nullif(current_setting('stuff.login', TRUE), '');
  the_request TEXT := nullif(current_setting('stuff.request', TRUE), '');
  the_address TEXT := nullif(current_setting('stuff.address', TRUE), '');
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
CALL keep_trail('stuff', 'sid', 'sid', 'stuff', 'version');
CALL keep_trail('utilisateur', 'id', 'id', 'login', 'isadmin', 'created', 'epoch', 'version');
CALL keep_trail('owned', 'oid', 'oid', 'object', 'owner', 'version');

ALTER TABLE Seal ADD COLUMN xid BIGINT;
ALTER TABLE Seal DISABLE TRIGGER seal_only_grows;
UPDATE Seal SET xid = Audit.xid FROM Audit WHERE Audit.aid = Seal.aid;
UPDATE Seal SET xid = 0 WHERE xid IS NULL;  -- of a row that was removed: audit-verify says so
ALTER TABLE Seal ENABLE TRIGGER seal_only_grows;
ALTER TABLE Seal ALTER COLUMN xid SET NOT NULL;

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
