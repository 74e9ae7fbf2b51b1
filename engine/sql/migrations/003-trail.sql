-- The trail: an order in which nothing appears late, narrow rights.
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

ALTER TABLE Seal ADD COLUMN xid BIGINT;
ALTER TABLE Seal DISABLE TRIGGER seal_only_grows;
UPDATE Seal SET xid = Audit.xid FROM Audit WHERE Audit.aid = Seal.aid;
UPDATE Seal SET xid = 0 WHERE xid IS NULL;  -- of a row that was removed: audit-verify says so
ALTER TABLE Seal ENABLE TRIGGER seal_only_grows;
ALTER TABLE Seal ALTER COLUMN xid SET NOT NULL;

-- as the owner: the application's role adds nothing to Seal and Era by itself
DROP FUNCTION IF EXISTS seal_audit;
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
