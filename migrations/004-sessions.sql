-- Sessions and what renews them; tokens issued before die, as they belong to none.
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
