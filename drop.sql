-- The exact mirror of create.sql, backwards.
DROP TABLE IF EXISTS Stuff;
DROP FUNCTION IF EXISTS next_version;
DROP TABLE IF EXISTS Schema_Version;
