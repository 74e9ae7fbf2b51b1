-- Second factors.
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
