-- The exact mirror of create.sql, backwards.
DROP FUNCTION IF EXISTS seal_audit, audit_hash;
DROP TABLE IF EXISTS Answer, Seal, Audit, Attempt, Owned, Utilisateur, Stuff, Schema_Version;
DROP FUNCTION IF EXISTS only_grows, audit_change, keep_an_admin, next_epoch, next_version;
