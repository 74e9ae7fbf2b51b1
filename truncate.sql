-- Empty every table of data; the schema and its version stay. The trail only grows: it takes its owner to say otherwise.
ALTER TABLE Audit DISABLE TRIGGER audit_only_grows;
ALTER TABLE Seal DISABLE TRIGGER seal_only_grows;
TRUNCATE Stuff, Utilisateur, Session, Refresh, Api_Key, Totp, Recovery, Owned, Attempt, Answer RESTART IDENTITY;
TRUNCATE Audit, Seal, Era RESTART IDENTITY;  -- apart: the line above is in the trail
ALTER TABLE Audit ENABLE TRIGGER audit_only_grows;
ALTER TABLE Seal ENABLE TRIGGER seal_only_grows;
