-- The application's schema as of today, readable, with its reasons; engine/sql/create.sql comes before. migrations/ leads there step by
-- step; a test holds both equal. By hand: psql -1 -v ON_ERROR_STOP=1 -f engine/sql/create.sql -f create.sql

-- texts are sorted and compared by code point, COLLATE "C": the same order on every machine, and LIKE 'prefix%' uses the index
CREATE TABLE Stuff(
  sid SERIAL PRIMARY KEY,
  stuff TEXT COLLATE "C" NOT NULL CONSTRAINT stuff_stuff_key UNIQUE
    CONSTRAINT stuff_stuff_check CHECK (length(stuff) BETWEEN 1 AND 512),
  version INT NOT NULL DEFAULT 1
);
CALL keep_version('stuff');

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
CALL keep_version('utilisateur');

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
CALL keep_version('owned');

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

-- their trail: no hash of a password
CALL keep_trail('stuff', 'sid', 'sid', 'stuff', 'version');
CALL keep_trail('utilisateur', 'id', 'id', 'login', 'isadmin', 'created', 'epoch', 'version', 'groups');
CALL keep_trail('owned', 'oid', 'oid', 'object', 'owner', 'version');

-- migrations
INSERT INTO Schema_Version(component, version, name, checksum) VALUES
  ('application', 1, 'initial', '409e0e39e25f821b4649e5d909d621c6a591855c13fa5abef5c9f73b17d06e49'),
  ('application', 2, 'trail', 'bedc2eb1bd79e3d0d83146da432c771b0e47307401b368f589aca4e6755a6439'),
  ('application', 3, 'groups', '68564bb74bd343d19cde34ebc7816ad4ee27a83f1156f12f3b76bff6a43d445f'),
  ('application', 4, 'sessions', 'b67d5fb2ae17ae5d1ca2d090d98cf733993320c12f18cfa2e01ea24315aa0792'),
  ('application', 5, 'keys', '859e27809a65efa8857f048d352f67e3880d83efe5b69d4c5115d8188dcb4103'),
  ('application', 6, 'totp', 'deff286ff9e6322be0f8d6c1f996270194b0f3437231638db226f8015caccc17');
