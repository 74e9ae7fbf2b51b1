-- Every statement of the server, in the order of the tables. The comment under a name documents it and may hold a word that
-- database.py obeys: FRESH, APART, REPLANNED.

--
-- SYSTEM
--

-- name: get_now()^
-- The database's time and the version of its schema.
SELECT now() AS now, (SELECT max(version) FROM Schema_Version) AS schema;

--
-- STUFF
--

-- name: list_stuff(sort, number, text, size)^
-- A page of stuff, and where the next one begins if there is more. Only the branch of the order asked for is executed.
WITH page AS MATERIALIZED (
  (SELECT sid, stuff FROM Stuff WHERE :sort = 'sid' AND sid > coalesce(:number::INT, 0) ORDER BY sid LIMIT :size::INT + 1)
  UNION ALL
  (SELECT sid, stuff FROM Stuff WHERE :sort = '-sid' AND sid < coalesce(:number::INT, 2147483647)
   ORDER BY sid DESC LIMIT :size::INT + 1)
  UNION ALL
  (SELECT sid, stuff FROM Stuff WHERE :sort = 'stuff' AND stuff > coalesce(:text::TEXT, '') ORDER BY stuff LIMIT :size::INT + 1)
  UNION ALL
  (SELECT sid, stuff FROM Stuff WHERE :sort = '-stuff' AND stuff < coalesce(:text::TEXT, chr(1114111))
   ORDER BY stuff DESC LIMIT :size::INT + 1)
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT sid, stuff FROM page LIMIT :size::INT) AS shown) AS items,
  (SELECT json_build_array(:sort, CASE WHEN :sort LIKE '%sid' THEN to_json(sid) ELSE to_json(stuff) END)
   FROM page WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next;

-- name: search_stuff(filter, sort, number, text, size)^
-- The same among what matches a LIKE pattern. REPLANNED: only a known pattern can use the index for its prefix.
WITH page AS MATERIALIZED (
  (SELECT sid, stuff FROM Stuff WHERE stuff LIKE :filter AND :sort = 'sid' AND sid > coalesce(:number::INT, 0)
   ORDER BY sid LIMIT :size::INT + 1)
  UNION ALL
  (SELECT sid, stuff FROM Stuff WHERE stuff LIKE :filter AND :sort = '-sid' AND sid < coalesce(:number::INT, 2147483647)
   ORDER BY sid DESC LIMIT :size::INT + 1)
  UNION ALL
  (SELECT sid, stuff FROM Stuff WHERE stuff LIKE :filter AND :sort = 'stuff' AND stuff > coalesce(:text::TEXT, '')
   ORDER BY stuff LIMIT :size::INT + 1)
  UNION ALL
  (SELECT sid, stuff FROM Stuff WHERE stuff LIKE :filter AND :sort = '-stuff' AND stuff < coalesce(:text::TEXT, chr(1114111))
   ORDER BY stuff DESC LIMIT :size::INT + 1)
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT sid, stuff FROM page LIMIT :size::INT) AS shown) AS items,
  (SELECT json_build_array(:sort, CASE WHEN :sort LIKE '%sid' THEN to_json(sid) ELSE to_json(stuff) END)
   FROM page WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next;

-- name: count_stuff(filter)$
-- How many match; only on request, its cost is that of reading them all. REPLANNED
SELECT count(*) FROM Stuff WHERE stuff LIKE :filter;

-- name: get_stuff_sid(sid)^
-- One stuff.
SELECT sid, stuff, version AS etag FROM Stuff WHERE sid = :sid;

-- name: add_stuff(stuff)$
-- A new stuff: its key.
INSERT INTO Stuff(stuff) VALUES (:stuff) RETURNING sid;

-- name: add_stuff_batch(items)^
-- Many new stuffs from a JSON array of texts: their keys in that order, and the places of those that are taken already or twice.
WITH item AS (
  SELECT stuff, place - 1 AS place FROM json_array_elements_text(:items::JSON) WITH ORDINALITY AS item(stuff, place)
), new AS (
  INSERT INTO Stuff(stuff) SELECT stuff FROM item ORDER BY place ON CONFLICT DO NOTHING RETURNING sid, stuff
)
SELECT
  (SELECT json_build_object('sids', json_agg(sid ORDER BY sid)) FROM new) AS body,
  (SELECT json_agg(place ORDER BY place) FROM (
     SELECT place, row_number() OVER (PARTITION BY stuff ORDER BY place) AS nth, new.sid
     FROM item LEFT JOIN new USING (stuff)) AS one
   WHERE sid IS NULL OR nth > 1) AS taken;

-- name: upd_stuff_sid(sid, stuff, match)$
-- Change a stuff that is still at one of the versions in match, if any is given: its new version; 0: it is at another one.
WITH changed AS (
  UPDATE Stuff SET stuff = :stuff
  WHERE sid = :sid AND (:match::INT[] IS NULL OR version = ANY(:match))
  RETURNING version
)
SELECT version FROM changed
UNION ALL
SELECT 0 FROM Stuff WHERE sid = :sid AND :match IS NOT NULL AND NOT EXISTS (SELECT FROM changed);

-- name: del_stuff_sid(sid, match)$
-- The same for a removal.
WITH changed AS (
  DELETE FROM Stuff
  WHERE sid = :sid AND (:match::INT[] IS NULL OR version = ANY(:match))
  RETURNING version
)
SELECT version FROM changed
UNION ALL
SELECT 0 FROM Stuff WHERE sid = :sid AND :match IS NOT NULL AND NOT EXISTS (SELECT FROM changed);
