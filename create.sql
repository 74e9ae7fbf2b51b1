-- The whole schema as of today, readable, with its reasons. migrations/ leads there step by step; a test holds both equal.
-- By hand: psql -1 -v ON_ERROR_STOP=1 -f create.sql

-- which schema this is, by the migrations that it stands for (migrations/record writes them at the end); /ready compares
CREATE TABLE Schema_Version(
  version INT PRIMARY KEY,
  name TEXT COLLATE "C" NOT NULL,
  checksum TEXT COLLATE "C" NOT NULL,  -- sha256 of the file but its last line feed
  applied TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- each change of a row makes a new version of it: the ETag of the resource (unlike xmin it survives dump and restore)
CREATE FUNCTION next_version() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  NEW.version := OLD.version + 1;
  RETURN NEW;
END $$;

-- texts are sorted and compared by code point, COLLATE "C": the same order on every machine, and LIKE 'prefix%' uses the index
CREATE TABLE Stuff(
  sid SERIAL PRIMARY KEY,
  stuff TEXT COLLATE "C" NOT NULL CONSTRAINT stuff_stuff_key UNIQUE
    CONSTRAINT stuff_stuff_check CHECK (length(stuff) BETWEEN 1 AND 512),
  version INT NOT NULL DEFAULT 1
);
CREATE TRIGGER stuff_version BEFORE UPDATE ON Stuff FOR EACH ROW EXECUTE FUNCTION next_version();

-- users; a password is only ever here as a hash that names its own scheme
CREATE TABLE Utilisateur(
  id SERIAL PRIMARY KEY,
  login TEXT COLLATE "C" NOT NULL CONSTRAINT utilisateur_login_key UNIQUE
    CONSTRAINT utilisateur_login_check CHECK (login ~ '^[^:[:space:][:cntrl:]]{1,64}$'),  -- a colon parts the fields of a token
  pword TEXT NOT NULL CONSTRAINT utilisateur_pword_check CHECK (pword LIKE '$%'),
  isAdmin BOOL NOT NULL DEFAULT FALSE,
  created TIMESTAMPTZ NOT NULL DEFAULT now(),
  epoch INT NOT NULL DEFAULT 1,  -- tokens are signed for an epoch: another one, and they are dead
  version INT NOT NULL DEFAULT 1,
  groups TEXT[] COLLATE "C" NOT NULL DEFAULT '{}'  -- as the configuration names them; ADMIN is the column above
    CONSTRAINT utilisateur_groups_check CHECK (groups <@ array_remove(array_remove(groups, 'ADMIN'), NULL))
);
CREATE TRIGGER utilisateur_version BEFORE UPDATE ON Utilisateur FOR EACH ROW EXECUTE FUNCTION next_version();

-- another password, role or group is another epoch, whoever makes the change; a stronger hash of the same password is not
CREATE FUNCTION next_epoch() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('stuff.rehash', TRUE) IS DISTINCT FROM 'on' THEN
    NEW.epoch := OLD.epoch + 1;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER utilisateur_epoch BEFORE UPDATE OF pword, isAdmin, groups ON Utilisateur FOR EACH ROW
  WHEN (OLD.pword <> NEW.pword OR OLD.isAdmin <> NEW.isAdmin OR OLD.groups <> NEW.groups) EXECUTE FUNCTION next_epoch();

-- somebody must stay in charge; the lock makes two administrators who demote each other at once take turns
CREATE FUNCTION keep_an_admin() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('Utilisateur.isAdmin'));
  IF NOT EXISTS (SELECT FROM Utilisateur WHERE isAdmin AND id <> OLD.id) THEN
    RAISE SQLSTATE 'ST409' USING MESSAGE = 'this is the last administrator', HINT = 'last_administrator';
  END IF;
  RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER utilisateur_demoted BEFORE UPDATE OF isAdmin ON Utilisateur FOR EACH ROW
  WHEN (OLD.isAdmin AND NOT NEW.isAdmin) EXECUTE FUNCTION keep_an_admin();
CREATE TRIGGER utilisateur_deleted BEFORE DELETE ON Utilisateur FOR EACH ROW
  WHEN (OLD.isAdmin) EXECUTE FUNCTION keep_an_admin();

-- what users own
CREATE TABLE Owned(
  oid SERIAL PRIMARY KEY,
  object TEXT COLLATE "C" NOT NULL CONSTRAINT owned_object_check CHECK (length(object) BETWEEN 1 AND 512),
  owner INT NOT NULL CONSTRAINT owned_owner_fkey REFERENCES Utilisateur,
  version INT NOT NULL DEFAULT 1,
  CONSTRAINT owned_object_key UNIQUE (object, owner)
);
CREATE INDEX owned_owner ON Owned(owner, oid);  -- an owner's list, in its order
CREATE TRIGGER owned_version BEFORE UPDATE ON Owned FOR EACH ROW EXECUTE FUNCTION next_version();

-- log-ins, each known by a digest of its token; dead when the user's epoch is another one
CREATE TABLE Session(
  sid BIGSERIAL PRIMARY KEY,
  uid INT NOT NULL CONSTRAINT session_uid_fkey REFERENCES Utilisateur ON DELETE CASCADE,
  epoch INT NOT NULL,
  digest TEXT COLLATE "C" NOT NULL CONSTRAINT session_digest_key UNIQUE,
  salt TEXT COLLATE "C" NOT NULL,  -- signed with the token, so that no two are equal
  made TIMESTAMPTZ NOT NULL DEFAULT now(),
  seen TIMESTAMPTZ NOT NULL DEFAULT now(),  -- to the minute
  until TIMESTAMPTZ NOT NULL,
  address TEXT COLLATE "C" NOT NULL,
  agent TEXT COLLATE "C" NOT NULL
);
CREATE INDEX session_uid ON Session(uid, sid);
CREATE INDEX session_until ON Session(until);

-- what renews a session, each good once; the spent ones stay to tell that one comes again
CREATE TABLE Refresh(
  digest TEXT COLLATE "C" PRIMARY KEY,
  sid BIGINT NOT NULL CONSTRAINT refresh_sid_fkey REFERENCES Session ON DELETE CASCADE,
  until TIMESTAMPTZ NOT NULL,
  spent BOOL NOT NULL DEFAULT FALSE
);
CREATE INDEX refresh_sid ON Refresh(sid);
CREATE INDEX refresh_until ON Refresh(until);

-- what programs call with instead of a password: each may do a part of what its user may, and is kept as a digest
CREATE TABLE Api_Key(
  kid SERIAL PRIMARY KEY,
  uid INT NOT NULL CONSTRAINT api_key_uid_fkey REFERENCES Utilisateur ON DELETE CASCADE,
  digest TEXT COLLATE "C" NOT NULL CONSTRAINT api_key_digest_key UNIQUE,
  note TEXT COLLATE "C" NOT NULL,
  scopes TEXT[] COLLATE "C" NOT NULL,
  made TIMESTAMPTZ NOT NULL DEFAULT now(),
  until TIMESTAMPTZ NOT NULL,
  used TIMESTAMPTZ  -- to the minute
);
CREATE INDEX api_key_uid ON Api_Key(uid, kid);

-- second factors: the secret is encrypted by the server, digits of a step up to the last used are good no more
CREATE TABLE Totp(
  uid INT PRIMARY KEY CONSTRAINT totp_uid_fkey REFERENCES Utilisateur ON DELETE CASCADE,
  secret TEXT COLLATE "C" NOT NULL,
  step BIGINT NOT NULL DEFAULT 0,
  confirmed BOOL NOT NULL DEFAULT FALSE
);
-- what stands in for them, each once
CREATE TABLE Recovery(
  uid INT CONSTRAINT recovery_uid_fkey REFERENCES Totp ON DELETE CASCADE,
  digest TEXT COLLATE "C",
  PRIMARY KEY (uid, digest)
);

-- attempts at a password, counted exactly for all servers; worth nothing after a crash, hence not logged
CREATE UNLOGGED TABLE Attempt(
  subject TEXT COLLATE "C" PRIMARY KEY,
  number INT NOT NULL,
  until TIMESTAMPTZ NOT NULL
);
CREATE INDEX attempt_until ON Attempt(until);

-- the audit trail: every change of the tables above, by whoever made it, and authentication events. Rows are read and sealed in
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
CALL keep_trail('utilisateur', 'id', 'id', 'login', 'isadmin', 'created', 'epoch', 'version', 'groups');
CALL keep_trail('owned', 'oid', 'oid', 'object', 'owner', 'version');

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
INSERT INTO Schema_Version(version, name, checksum) VALUES
  (1, 'initial', '74bd190b3210205eb55183a3baf7738e514d8aea1bb68fe2d0eb59133ae59a15'),
  (2, 'trail', '4e3e1e606621b993ad4c8347b6cc861b3df19053cb16a7542f49906eefbd1a56'),
  (3, 'groups', '68564bb74bd343d19cde34ebc7816ad4ee27a83f1156f12f3b76bff6a43d445f'),
  (4, 'sessions', 'b67d5fb2ae17ae5d1ca2d090d98cf733993320c12f18cfa2e01ea24315aa0792'),
  (5, 'keys', '859e27809a65efa8857f048d352f67e3880d83efe5b69d4c5115d8188dcb4103'),
  (6, 'totp', 'deff286ff9e6322be0f8d6c1f996270194b0f3437231638db226f8015caccc17');
