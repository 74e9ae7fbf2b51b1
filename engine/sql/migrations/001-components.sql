-- Versions by component. Up to 1.0.0 there was one track, the application's, whose first step made the engine's tables as well: its rows
-- stand for both. One without a checksum is of a file that was applied as part of another one; migrate writes the checksum.
CREATE TABLE IF NOT EXISTS Schema_Version(
  version INT PRIMARY KEY,
  name TEXT COLLATE "C" NOT NULL,
  checksum TEXT COLLATE "C" NOT NULL,  -- sha256 of the file but its last line feed
  applied TIMESTAMPTZ NOT NULL DEFAULT now()
);
ALTER TABLE Schema_Version
  DROP CONSTRAINT schema_version_pkey,
  ADD COLUMN component TEXT COLLATE "C" NOT NULL DEFAULT 'application',
  ADD PRIMARY KEY (component, version);
ALTER TABLE Schema_Version ALTER COLUMN component DROP DEFAULT;
UPDATE Schema_Version SET checksum = ''
WHERE version = 1 OR checksum = '4e3e1e606621b993ad4c8347b6cc861b3df19053cb16a7542f49906eefbd1a56';  -- the trail's, soon after 1.0.0
INSERT INTO Schema_Version(component, version, name, checksum, applied)
SELECT 'engine', version + 1, name, '', applied FROM Schema_Version WHERE checksum = '';
