-- Keys with scopes.
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
