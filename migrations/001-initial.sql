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
  version INT NOT NULL DEFAULT 1
);
CALL keep_version('utilisateur');

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
CALL keep_version('owned');
