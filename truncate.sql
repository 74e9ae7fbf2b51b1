-- Empty every table of data; engine/sql/truncate.sql comes after, as this is in the trail.
TRUNCATE Stuff, Utilisateur, Session, Refresh, Api_Key, Totp, Recovery, Owned RESTART IDENTITY;
