-- Shard what users own by its owner, on Citus 11 or later; docs/decisions/059-citus.md says what was shown, what was read.
-- On the coordinator, after both create.sql, as the owner of the tables; app is the application's role:
--   psql -1 -v ON_ERROR_STOP=1 -v app=ROLE -f deploy/citus.sql
-- Each node needs citus.enable_unsafe_triggers = on before: the version of a row is counted where the row is.

-- All other tables stay plain ones of the coordinator: reference tables take no triggers, and theirs keep the audit trail, the
-- epochs and the last administrator. So what a foreign key of a shard can lead to is a reference table of the keys alone.
CREATE TABLE Owner(id INT PRIMARY KEY);
INSERT INTO Owner SELECT id FROM Utilisateur;
GRANT DELETE ON Owner TO :"app";
CREATE FUNCTION follow_users() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO Owner VALUES (NEW.id) ON CONFLICT DO NOTHING;  -- TRUNCATE leaves them
  ELSE
    DELETE FROM Owner WHERE id = OLD.id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER utilisateur_owner AFTER INSERT OR DELETE ON Utilisateur FOR EACH ROW EXECUTE FUNCTION follow_users();

-- NOTE what becomes of Owned is in the audit trail no more: a trigger of a shard reaches neither the trail nor the request
DROP TRIGGER audit_insert ON Owned;
DROP TRIGGER audit_update ON Owned;
DROP TRIGGER audit_delete ON Owned;
DROP TRIGGER audit_truncate ON Owned;
ALTER TABLE Owned
  DROP CONSTRAINT owned_owner_fkey,
  DROP CONSTRAINT owned_pkey,
  ADD CONSTRAINT owned_pkey PRIMARY KEY (owner, oid);  -- a key contains the owner, a sequence still makes oid unique
DROP INDEX owned_owner;  -- the same columns
CREATE INDEX owned_oid ON Owned(oid);  -- for the list of all

SET LOCAL citus.multi_shard_modify_mode = 'sequential';  -- a foreign key to a reference table, in one transaction with it
SELECT create_reference_table('owner');
SELECT create_distributed_table('owned', 'owner');
ALTER TABLE Owned ADD CONSTRAINT owned_owner_fkey FOREIGN KEY (owner) REFERENCES Owner;
