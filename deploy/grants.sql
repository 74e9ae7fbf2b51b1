-- What the application's role may do with the application's tables beyond reading and adding; engine/sql/grants.sql comes before.
GRANT UPDATE, DELETE ON Stuff, Utilisateur, Owned, Session, Refresh, Api_Key, Totp, Recovery TO :"app";
