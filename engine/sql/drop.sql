-- The exact mirror of create.sql, backwards; the application's comes before.
DROP ROUTINE IF EXISTS seal_audit, audit_hash, keep_trail, request_setting, trail_from;
DROP VIEW IF EXISTS Trail_Era;
DROP TABLE IF EXISTS Answer, Seal, Era, Audit, Attempt, Schema_Version;
DROP ROUTINE IF EXISTS only_grows, keep_version, next_version;
