-- Groups of users, as the configuration names them; ADMIN stays a column of its own.
ALTER TABLE Utilisateur ADD COLUMN groups TEXT[] COLLATE "C" NOT NULL DEFAULT '{}'
  CONSTRAINT utilisateur_groups_check CHECK (groups <@ array_remove(array_remove(groups, 'ADMIN'), NULL));
DROP TRIGGER utilisateur_epoch ON Utilisateur;
CREATE TRIGGER utilisateur_epoch BEFORE UPDATE OF pword, isAdmin, groups ON Utilisateur FOR EACH ROW
  WHEN (OLD.pword <> NEW.pword OR OLD.isAdmin <> NEW.isAdmin OR OLD.groups <> NEW.groups) EXECUTE FUNCTION next_epoch();
CALL keep_trail('utilisateur', 'id', 'id', 'login', 'isadmin', 'created', 'epoch', 'version', 'groups');
