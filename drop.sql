-- The exact mirror of create.sql, backwards.
DROP ROUTINE IF EXISTS seal_audit, audit_hash, keep_trail, trail_from;
DROP VIEW IF EXISTS Trail_Era;
DROP TABLE IF EXISTS Answer, Seal, Era, Audit, Attempt, Recovery, Totp, Api_Key, Refresh, Session, Owned, Utilisateur, Stuff, Schema_Version;
DROP FUNCTION IF EXISTS only_grows, audit_stuff, audit_utilisateur, audit_owned, keep_an_admin, next_epoch, next_version;
