-- The exact mirror of create.sql, backwards; engine/sql/drop.sql comes after.
DROP TABLE IF EXISTS Recovery, Totp, Api_Key, Refresh, Session, Owned, Utilisateur, Stuff;
DROP FUNCTION IF EXISTS audit_stuff, audit_utilisateur, audit_owned, keep_an_admin, next_epoch;
