-- The whole schema as of today, readable, with its reasons. migrations/ leads there step by step; a test holds both equal.
-- By hand: psql -1 -v ON_ERROR_STOP=1 -f create.sql

-- which schema this is; the server states the version that it needs (see /ready)
CREATE TABLE Schema_Version(
  version INT PRIMARY KEY,
  name TEXT NOT NULL,
  applied TIMESTAMPTZ NOT NULL DEFAULT now()
);
INSERT INTO Schema_Version(version, name) VALUES (1, 'initial');

-- each change of a row makes a new version of it: the ETag of the resource (unlike xmin it survives dump and restore)
CREATE FUNCTION next_version() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  NEW.version := OLD.version + 1;
  RETURN NEW;
END $$;

-- texts are sorted and compared by code point, COLLATE "C": the same order on every machine, and LIKE 'prefix%' uses the index
CREATE TABLE Stuff(
  sid SERIAL PRIMARY KEY,
  stuff TEXT COLLATE "C" NOT NULL CONSTRAINT stuff_stuff_key UNIQUE
    CONSTRAINT stuff_stuff_check CHECK (length(stuff) BETWEEN 1 AND 512),
  version INT NOT NULL DEFAULT 1
);
CREATE TRIGGER stuff_version BEFORE UPDATE ON Stuff FOR EACH ROW EXECUTE FUNCTION next_version();
