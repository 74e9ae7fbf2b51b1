-- The engine's statements. The comment under a name documents it and may hold a word that steers it: @primary, @autonomous or
-- @custom_plan (see engine/db/statement.py).

--
-- SYSTEM
--

-- name: get_now()^
-- The database's time and the version of the application's schema. (Up to 1.0.0 there were no components.)
SELECT now() AS now, (
  SELECT max(version) FROM Schema_Version AS v WHERE coalesce(to_jsonb(v) ->> 'component', 'application') = 'application'
) AS schema;

-- name: get_schema()^
-- The versions of both components; 0: the database has none of it.
SELECT coalesce(max(version) FILTER (WHERE component = 'engine'), 0) AS engine,
  coalesce(max(version) FILTER (WHERE component = 'application'), 0) AS application
FROM (SELECT version, coalesce(to_jsonb(v) ->> 'component', 'application') AS component FROM Schema_Version AS v) AS found;

-- name: list_sequences()
-- How much of each sequence of keys is used up, 1 being all.
SELECT sequencename::TEXT AS sequence, coalesce(last_value, 0)::FLOAT8 / max_value AS used FROM pg_sequences
WHERE schemaname = current_schema() AND NOT cycle;

-- name: get_trail_lag()$
-- How many seconds the oldest row of the trail waits for a transaction that began before it and still runs.
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(a.at)), 0)::FLOAT8
FROM Trail_Era AS e JOIN Audit AS a ON a.aid BETWEEN e.first AND e.last AND a.xid >= e.settled;

--
-- ATTEMPT
--

-- name: add_attempt(login, address, period)^
-- Count an attempt at a password before it is checked, for the login, the address, and the login from that address: the three
-- numbers of the period (in seconds) under way, and the seconds until it ends. @autonomous
WITH gone AS (
  DELETE FROM Attempt WHERE subject IN (
    SELECT subject FROM Attempt
    WHERE until < now() AND subject NOT IN ('l ' || :login, 'a ' || :address, 'p ' || :address || ' ' || :login)
    ORDER BY until LIMIT 10 FOR UPDATE SKIP LOCKED)
), counted AS (
  INSERT INTO Attempt AS old(subject, number, until)
  SELECT subject, 1, now() + make_interval(secs => :period)
  FROM unnest(ARRAY['a ' || :address, 'l ' || :login, 'p ' || :address || ' ' || :login]) AS subject
  ORDER BY subject  -- always in this order: two attempts never wait for each other
  ON CONFLICT (subject) DO UPDATE SET
    number = CASE WHEN old.until < now() THEN 1 ELSE old.number + 1 END,
    until = CASE WHEN old.until < now() THEN excluded.until ELSE old.until END
  RETURNING subject, number, until
)
SELECT
  max(number) FILTER (WHERE subject LIKE 'l %') AS login,
  max(number) FILTER (WHERE subject LIKE 'a %') AS address,
  max(number) FILTER (WHERE subject LIKE 'p %') AS pair,
  ceil(extract(epoch FROM max(until) - now()))::INT AS wait
FROM counted;

-- name: add_attempt_one(subject, period)^
-- Count what is no password: the number of the period under way, and the seconds until it ends. @autonomous
INSERT INTO Attempt AS old(subject, number, until) VALUES (:subject, 1, now() + make_interval(secs => :period))
ON CONFLICT (subject) DO UPDATE SET
  number = CASE WHEN old.until < now() THEN 1 ELSE old.number + 1 END,
  until = CASE WHEN old.until < now() THEN excluded.until ELSE old.until END
RETURNING number, ceil(extract(epoch FROM until - now()))::INT AS wait;

-- name: del_attempt(login, address)!
-- The password was right: that attempt does not count. @autonomous
UPDATE Attempt SET number = number - 1
FROM (SELECT subject FROM Attempt
      WHERE subject IN ('a ' || :address, 'l ' || :login, 'p ' || :address || ' ' || :login) AND number > 0
      ORDER BY subject FOR UPDATE) AS mine
WHERE Attempt.subject = mine.subject;

--
-- AUDIT
--

-- name: add_event(event, login, request, address)!
-- Something that was tried on the door; kept whatever becomes of the request. @autonomous
INSERT INTO Audit(event, login, request, address) VALUES (:event, :login, :request, :address);

-- name: list_audit(login, tab, key, since, system, xid, aid, size)^
-- A page of the trail, in an order in which nothing appears late. @primary: a standby may lack the row of a
-- cursor. @custom_plan
WITH era AS (
  SELECT first, last, system, settled, CASE WHEN :aid::BIGINT BETWEEN first AND last THEN :xid::BIGINT ELSE 0 END AS xid,
    CASE WHEN :aid BETWEEN first AND last THEN :aid ELSE 0 END AS aid
  FROM Trail_Era WHERE last >= coalesce(:aid, 0)
), page AS MATERIALIZED (
  SELECT era.first, era.system, a.* FROM era CROSS JOIN LATERAL (
    SELECT * FROM Audit WHERE aid BETWEEN era.first AND era.last AND (xid, aid) > (era.xid, era.aid) AND xid < era.settled
      AND (:login::TEXT IS NULL OR login = :login) AND (:tab::TEXT IS NULL OR tab = :tab) AND (:key::TEXT IS NULL OR key = :key)
      AND (:since::TIMESTAMPTZ IS NULL OR at >= :since)
    ORDER BY xid, aid LIMIT :size::INT + 1) AS a
  ORDER BY era.first, a.xid, a.aid LIMIT :size::INT + 1
)
SELECT
  (SELECT json_agg(shown) FROM (
     SELECT aid, at, login, role, request, address, event, tab AS "table", key, before, after FROM page LIMIT :size::INT
   ) AS shown) AS items,
  (SELECT json_build_array('aid', system, xid, aid) FROM page
   WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next,
  :aid::BIGINT IS NULL OR EXISTS (
    SELECT FROM Trail_Era AS e JOIN Audit AS a ON a.aid BETWEEN e.first AND e.last
    WHERE a.xid = :xid AND a.aid = :aid AND e.system = :system::BIGINT) AS known;

-- name: list_audit_desc(login, tab, key, since, system, xid, aid, size)^
-- The reverse, up to what was committed last. @primary @custom_plan
WITH era AS (
  SELECT first, last, system, CASE WHEN :aid::BIGINT BETWEEN first AND last THEN :xid::BIGINT ELSE 9223372036854775807 END AS xid,
    CASE WHEN :aid BETWEEN first AND last THEN :aid ELSE 9223372036854775807 END AS aid
  FROM Trail_Era WHERE first <= coalesce(:aid, 9223372036854775807)
), page AS MATERIALIZED (
  SELECT era.first, era.system, a.* FROM era CROSS JOIN LATERAL (
    SELECT * FROM Audit WHERE aid BETWEEN era.first AND era.last AND (xid, aid) < (era.xid, era.aid)
      AND (:login::TEXT IS NULL OR login = :login) AND (:tab::TEXT IS NULL OR tab = :tab) AND (:key::TEXT IS NULL OR key = :key)
      AND (:since::TIMESTAMPTZ IS NULL OR at >= :since)
    ORDER BY xid DESC, aid DESC LIMIT :size::INT + 1) AS a
  ORDER BY era.first DESC, a.xid DESC, a.aid DESC LIMIT :size::INT + 1
)
SELECT
  (SELECT json_agg(shown) FROM (
     SELECT aid, at, login, role, request, address, event, tab AS "table", key, before, after FROM page LIMIT :size::INT
   ) AS shown) AS items,
  (SELECT json_build_array('-aid', system, xid, aid) FROM page
   WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next,
  :aid::BIGINT IS NULL OR EXISTS (
    SELECT FROM Trail_Era AS e JOIN Audit AS a ON a.aid BETWEEN e.first AND e.last
    WHERE a.xid = :xid AND a.aid = :aid AND e.system = :system::BIGINT) AS known;

-- name: count_audit(login, tab, key, since)$
-- How many rows of the trail match. @custom_plan
SELECT count(*) FROM Audit
WHERE (:login::TEXT IS NULL OR login = :login) AND (:tab::TEXT IS NULL OR tab = :tab) AND (:key::TEXT IS NULL OR key = :key)
  AND (:since::TIMESTAMPTZ IS NULL OR at >= :since);

-- name: list_changes(uid, owners, tab, system, xid, aid, size)^
-- The changes of rows after a place of the trail, of those that a user owns, or of all where there is none: owners is an object, the
-- column of each table that names the owner. It looks at 10,000 rows of the trail at most, `more` says that there may be others.
-- @primary: a standby may lack the row of a cursor.
WITH era AS MATERIALIZED (
  SELECT * FROM trail_from(:xid::BIGINT, :aid::BIGINT)
), ahead AS MATERIALIZED (
  SELECT a.xid, a.aid FROM era CROSS JOIN LATERAL (
    SELECT xid, aid FROM Audit WHERE aid BETWEEN era.first AND era.last AND (xid, aid) > (era.xid, era.aid) AND xid < era.settled
    ORDER BY xid, aid LIMIT 10000) AS a
), bound AS MATERIALIZED (
  SELECT xid, aid FROM ahead ORDER BY xid DESC, aid DESC LIMIT 1
), page AS MATERIALIZED (
  SELECT a.* FROM era CROSS JOIN bound CROSS JOIN LATERAL (
    SELECT xid, aid, at, tab, key, event, login FROM Audit
    WHERE aid BETWEEN era.first AND era.last AND (xid, aid) > (era.xid, era.aid) AND (xid, aid) <= (bound.xid, bound.aid)
      AND tab IS NOT NULL AND (:tab::TEXT IS NULL OR tab = :tab)
      AND (:uid::INT IS NULL OR :uid::INT::TEXT IN (before ->> (:owners::JSONB ->> tab), after ->> (:owners::JSONB ->> tab)))
    ORDER BY xid, aid LIMIT :size::INT) AS a
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT at, tab AS "table", key, event, login FROM page ORDER BY xid, aid) AS shown) AS items,
  -- where to go on: after the last of a full page, else of what was looked at, else where it was
  (SELECT json_build_array('changes', system, xid, aid) FROM (
     (SELECT 1 AS choice, system, page.xid, page.aid FROM era, page ORDER BY 3, 4 OFFSET :size::INT - 1 LIMIT 1)
     UNION ALL SELECT 2, system, bound.xid, bound.aid FROM era, bound
     UNION ALL SELECT 3, coalesce(:system::BIGINT, system), coalesce(:xid, 0), coalesce(:aid, 0) FROM era
     ORDER BY choice LIMIT 1) AS place) AS next,
  (SELECT count(*) FROM ahead) = 10000 AS more,
  coalesce(:aid::BIGINT, 0) = 0 OR EXISTS (
    SELECT FROM Trail_Era AS e JOIN Audit AS a ON a.aid BETWEEN e.first AND e.last
    WHERE a.xid = :xid AND a.aid = :aid AND e.system = :system::BIGINT) AS known;

-- name: seal_audit(most)$
-- Seal up to so many rows of the trail: how many were. @autonomous
SELECT seal_audit(:most);

-- name: get_seal()^
-- The last link of the chain: with its hash, the anchor of all before it. @primary
SELECT link, encode(hash, 'hex') AS hash FROM Seal ORDER BY link DESC LIMIT 1;

-- name: list_seals(links)
-- The hashes of some links.
SELECT link, encode(hash, 'hex') AS hash FROM Seal WHERE link = ANY(:links::BIGINT[]);

-- name: get_broken_seal()^
-- The first link of the chain that does not hold: its row was changed or removed. None: the chain holds.
SELECT link, aid FROM (
  SELECT link, s.aid, hash, a AS one, lag(hash) OVER chain AS previous, link - lag(link, 1, 0::BIGINT) OVER chain AS step
  FROM Seal AS s LEFT JOIN Audit AS a ON a.aid = s.aid AND a.xid = s.xid
  WINDOW chain AS (ORDER BY link)
) AS links
WHERE step <> 1 OR one IS NULL OR hash IS DISTINCT FROM audit_hash(previous, one)
ORDER BY link LIMIT 1;

-- name: get_settled()$
-- The lowest running transaction: rows of those below it can be sealed.
SELECT pg_snapshot_xmin(pg_current_snapshot())::TEXT::BIGINT;

-- name: get_unsealed(settled)^
-- The rows that are not sealed and should be, or of a transaction that is not yet: the first, and their number.
SELECT min(a.aid) AS aid, count(*) AS number FROM Trail_Era AS e JOIN Audit AS a ON a.aid BETWEEN e.first AND e.last
WHERE (a.xid < :settled::BIGINT OR a.xid >= pg_snapshot_xmax(pg_current_snapshot())::TEXT::BIGINT OR e.settled = 9223372036854775807)
  AND NOT EXISTS (SELECT FROM Seal AS s WHERE s.aid = a.aid AND s.xid = a.xid);

--
-- ANSWER
--

-- name: del_answer_old(key)!
-- Forget answers of more than 24 hours, at most a hundred others at a time.
DELETE FROM Answer
WHERE made < now() - INTERVAL '24 hours' AND (key = :key OR key IN (
  SELECT key FROM Answer WHERE made < now() - INTERVAL '24 hours' LIMIT 100 FOR UPDATE SKIP LOCKED));

-- name: claim_answer(key, fingerprint)^
-- The answer kept under a key, or a new one without a status, ours to give; none while another transaction is at it.
INSERT INTO Answer(key, fingerprint)
SELECT :key::TEXT, :fingerprint WHERE pg_try_advisory_xact_lock(hashtextextended(:key::TEXT, 0))
ON CONFLICT (key) DO UPDATE SET key = EXCLUDED.key
RETURNING fingerprint, status, headers, body;

-- name: set_answer(key, status, headers, body)!
-- Keep the answer.
UPDATE Answer SET status = :status, headers = :headers, body = :body WHERE key = :key;
