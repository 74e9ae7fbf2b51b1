-- What the application's role may do beyond reading and adding, which it may everywhere (deploy/database.sql). Each deployment runs
-- this as the owner, before the running release is replaced: it may give more, taking away waits for the next release.
GRANT UPDATE, DELETE ON Stuff, Utilisateur, Owned, Attempt, Answer TO :"app";
REVOKE INSERT ON Schema_Version FROM :"app";
