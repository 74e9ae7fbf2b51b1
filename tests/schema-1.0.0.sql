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
  version INT NOT NULL DEFAULT 1
);
CREATE TRIGGER utilisateur_version BEFORE UPDATE ON Utilisateur FOR EACH ROW EXECUTE FUNCTION next_version();

-- another password or another role is another epoch, whoever makes the change; a stronger hash of the same password is not
CREATE FUNCTION next_epoch() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('stuff.rehash', TRUE) IS DISTINCT FROM 'on' THEN
    NEW.epoch := OLD.epoch + 1;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER utilisateur_epoch BEFORE UPDATE OF pword, isAdmin ON Utilisateur FOR EACH ROW
  WHEN (OLD.pword <> NEW.pword OR OLD.isAdmin <> NEW.isAdmin) EXECUTE FUNCTION next_epoch();

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

-- attempts at a password, counted exactly for all servers; worth nothing after a crash, hence not logged
CREATE UNLOGGED TABLE Attempt(
  subject TEXT COLLATE "C" PRIMARY KEY,
  number INT NOT NULL,
  until TIMESTAMPTZ NOT NULL
);
CREATE INDEX attempt_until ON Attempt(until);

-- the audit trail: every change of the tables above, by whoever made it, and what was tried on the door
CREATE TABLE Audit(
  aid BIGSERIAL PRIMARY KEY,
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  xid BIGINT NOT NULL DEFAULT pg_current_xact_id()::TEXT::BIGINT,  -- of the change's transaction
  login TEXT COLLATE "C",  -- of the API's user, if one did it
  role TEXT COLLATE "C" NOT NULL DEFAULT session_user,  -- of the database
  request TEXT COLLATE "C",
  address TEXT COLLATE "C",
  event TEXT COLLATE "C" NOT NULL,  -- INSERT UPDATE DELETE TRUNCATE, or LOGIN LOGIN_FAILED LOGOUT REFUSED
  tab TEXT COLLATE "C",
  key TEXT COLLATE "C",
  before JSONB,
  after JSONB
);
CREATE INDEX audit_login ON Audit(login, aid);
CREATE INDEX audit_tab ON Audit(tab, aid);
CREATE INDEX audit_at ON Audit USING brin(at);
CREATE INDEX audit_xid ON Audit(xid, aid);  -- the order of the seal

CREATE FUNCTION audit_change() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
  old_row JSONB := CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN to_jsonb(OLD) - 'pword' END;
  new_row JSONB := CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN to_jsonb(NEW) - 'pword' END;
BEGIN
  INSERT INTO Audit(login, request, address, event, tab, key, before, after) VALUES (
    nullif(current_setting('stuff.login', TRUE), ''),
    nullif(current_setting('stuff.request', TRUE), ''),
    nullif(current_setting('stuff.address', TRUE), ''),
    TG_OP, TG_TABLE_NAME, coalesce(new_row, old_row) ->> TG_ARGV[0], old_row, new_row);
  RETURN NULL;
END $$;
CREATE TRIGGER stuff_audit AFTER INSERT OR UPDATE OR DELETE ON Stuff FOR EACH ROW EXECUTE FUNCTION audit_change('sid');
CREATE TRIGGER stuff_audit_all AFTER TRUNCATE ON Stuff EXECUTE FUNCTION audit_change();
CREATE TRIGGER utilisateur_audit AFTER INSERT OR UPDATE OR DELETE ON Utilisateur FOR EACH ROW EXECUTE FUNCTION audit_change('id');
CREATE TRIGGER utilisateur_audit_all AFTER TRUNCATE ON Utilisateur EXECUTE FUNCTION audit_change();
CREATE TRIGGER owned_audit AFTER INSERT OR UPDATE OR DELETE ON Owned FOR EACH ROW EXECUTE FUNCTION audit_change('oid');
CREATE TRIGGER owned_audit_all AFTER TRUNCATE ON Owned EXECUTE FUNCTION audit_change();

-- the seal of the trail: each row's hash covers the row and the hash before it. Sealing runs a little after the changes,
-- so that writers never queue: only rows of transactions below every running one, whose order can no longer change
CREATE TABLE Seal(
  link BIGINT PRIMARY KEY,
  aid BIGINT NOT NULL CONSTRAINT seal_aid_key UNIQUE,
  hash BYTEA NOT NULL
);

CREATE FUNCTION audit_hash(previous BYTEA, one Audit) RETURNS BYTEA LANGUAGE SQL STABLE AS $$
  SELECT sha256(coalesce(previous, '') || convert_to(jsonb_build_array(
    one.aid, extract(epoch FROM one.at), one.xid, one.login, one.role, one.request, one.address,
    one.event, one.tab, one.key, one.before, one.after)::TEXT, 'UTF8'))
$$;

CREATE FUNCTION seal_audit(most INT) RETURNS INT LANGUAGE plpgsql AS $$
DECLARE
  last Seal;
  begun BIGINT;
  rows REFCURSOR;
  one Audit;
  sealed INT := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('Seal')) THEN
    RETURN 0;  -- another server is at it
  END IF;
  SELECT * INTO last FROM Seal ORDER BY link DESC LIMIT 1;
  SELECT xid INTO begun FROM Audit WHERE aid = last.aid;
  IF begun >= pg_snapshot_xmax(pg_current_snapshot())::TEXT::BIGINT THEN
    -- restored from a dump of another cluster, whose transactions were further: once, look for what is not sealed yet
    OPEN rows FOR SELECT a.* FROM Audit AS a, pg_current_snapshot() AS now
      WHERE (a.xid < pg_snapshot_xmin(now)::TEXT::BIGINT OR a.xid >= pg_snapshot_xmax(now)::TEXT::BIGINT)
        AND NOT EXISTS (SELECT FROM Seal AS s WHERE s.aid = a.aid)
      ORDER BY a.xid < pg_snapshot_xmin(now)::TEXT::BIGINT, a.xid, a.aid LIMIT most;
  ELSE
    OPEN rows FOR SELECT * FROM Audit
      WHERE (xid, aid) > (coalesce(begun, 0), coalesce(last.aid, 0))
        AND xid < pg_snapshot_xmin(pg_current_snapshot())::TEXT::BIGINT
      ORDER BY xid, aid LIMIT most;
  END IF;
  LOOP
    FETCH rows INTO one;
    EXIT WHEN NOT FOUND;
    last := ROW(coalesce(last.link, 0) + 1, one.aid, audit_hash(last.hash, one));
    INSERT INTO Seal VALUES (last.*);
    sealed := sealed + 1;
  END LOOP;
  RETURN sealed;
END $$;

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
  (1, 'initial', '74bd190b3210205eb55183a3baf7738e514d8aea1bb68fe2d0eb59133ae59a15');
