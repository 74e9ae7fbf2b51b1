-- What the application's role may do beyond reading and adding, which it may everywhere (deploy/database.sql). Each deployment runs
-- this as the owner, before the running release is replaced: it may give more, taking away waits for the next release.
GRANT UPDATE, DELETE ON Stuff, Utilisateur, Owned, Attempt, Answer, Session, Refresh, Api_Key, Totp, Recovery TO :"app";
REVOKE INSERT ON Schema_Version FROM :"app";
-- of the trail, columns that do not say when and in which transaction; what is sealed is for seal_audit, the owner's function, to say.
-- The release before does with that
REVOKE INSERT ON Audit, Seal, Era FROM :"app";
GRANT INSERT (login, request, address, event, tab, key, before, after) ON Audit TO :"app";
