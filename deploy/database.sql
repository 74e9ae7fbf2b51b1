-- The roles and the database, by PostgreSQL's administrator; again is harmless. deploy/provision runs it where the database is on the
-- same machine, and shows how to where it is not:
--   psql -v ON_ERROR_STOP=1 -v app=stuff -v owner=stuff_owner -v db=stuff -v limit=52 -f deploy/database.sql postgres
-- The owner makes and changes the schema; the application only reads and writes rows, and those of the audit trail only once.
SELECT format('CREATE ROLE %I LOGIN', role) FROM unnest(ARRAY[:'app', :'owner']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
ALTER ROLE :"app" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT :limit;
ALTER ROLE :"owner" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 5;
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING UTF8 LOCALE ''C.UTF-8''', :'db', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'db') \gexec
REVOKE ALL ON DATABASE :"db" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"db" TO :"app";
\connect :"db"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"app";
-- more is in engine/sql/grants.sql and deploy/grants.sql, table by table
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT USAGE ON SEQUENCES TO :"app";
