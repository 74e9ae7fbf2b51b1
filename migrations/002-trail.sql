-- The columns that the trail keeps of each table.
CALL keep_trail('stuff', 'sid', 'sid', 'stuff', 'version');
CALL keep_trail('utilisateur', 'id', 'id', 'login', 'isadmin', 'created', 'epoch', 'version');
CALL keep_trail('owned', 'oid', 'oid', 'object', 'owner', 'version');
