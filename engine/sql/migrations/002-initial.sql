-- The engine's tables as 1.0.0 had them.
-- each change of a row makes a new version of it: the ETag of the resource (unlike xmin it survives dump and restore)
CREATE FUNCTION next_version() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  NEW.version := OLD.version + 1;
  RETURN NEW;
END $$;

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
