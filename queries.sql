-- The application's statements, in the order of its tables; engine/sql/queries.sql has the engine's. Some the engine asks for
-- (docs/engine.md). The comment under a name documents it and may hold a word that steers it: @primary, @autonomous or @custom_plan.

--
-- STUFF
--

-- name: list_stuff_sid(after, size)^
-- A page of stuff by key, and where the next one begins if there is more: one look beyond its end. (EXISTS would be planned as a
-- scan of the table, which is taken to end soon.)
SELECT json_agg(shown) AS items,
  CASE WHEN count(*) = :size::INT
    AND (SELECT sid FROM Stuff WHERE sid > max(shown.sid) ORDER BY sid LIMIT 1) IS NOT NULL
    THEN json_build_array('sid', max(shown.sid)) END AS next
FROM (SELECT sid, stuff FROM Stuff WHERE sid > coalesce(:after::INT, 0) ORDER BY sid LIMIT :size::INT) AS shown;

-- name: list_stuff_sid_desc(after, size)^
-- The same, the last key first.
SELECT json_agg(shown) AS items,
  CASE WHEN count(*) = :size::INT
    AND (SELECT sid FROM Stuff WHERE sid < min(shown.sid) ORDER BY sid DESC LIMIT 1) IS NOT NULL
    THEN json_build_array('-sid', min(shown.sid)) END AS next
FROM (
  SELECT sid, stuff FROM Stuff WHERE sid < coalesce(:after::INT, 2147483647) ORDER BY sid DESC LIMIT :size::INT
) AS shown;

-- name: list_stuff_stuff(after, size)^
-- The same by text.
SELECT json_agg(shown) AS items,
  CASE WHEN count(*) = :size::INT
    AND (SELECT stuff FROM Stuff WHERE stuff > max(shown.stuff) ORDER BY stuff LIMIT 1) IS NOT NULL
    THEN json_build_array('stuff', max(shown.stuff)) END AS next
FROM (SELECT sid, stuff FROM Stuff WHERE stuff > coalesce(:after::TEXT, '') ORDER BY stuff LIMIT :size::INT) AS shown;

-- name: list_stuff_stuff_desc(after, size)^
-- The same, the last text first.
SELECT json_agg(shown) AS items,
  CASE WHEN count(*) = :size::INT
    AND (SELECT stuff FROM Stuff WHERE stuff < min(shown.stuff) ORDER BY stuff DESC LIMIT 1) IS NOT NULL
    THEN json_build_array('-stuff', min(shown.stuff)) END AS next
FROM (
  SELECT sid, stuff FROM Stuff WHERE stuff < coalesce(:after::TEXT, repeat(chr(1114111), 513))  -- longer than any text
  ORDER BY stuff DESC LIMIT :size::INT
) AS shown;

-- name: search_stuff(filter, sort, number, text, size)^
-- A page of what matches a LIKE pattern, in one of the four orders, of which one is executed. @custom_plan: only a known pattern
-- can use the index for its prefix.
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
  (SELECT sid, stuff FROM Stuff
   WHERE stuff LIKE :filter AND :sort = '-stuff' AND stuff < coalesce(:text::TEXT, repeat(chr(1114111), 513))
   ORDER BY stuff DESC LIMIT :size::INT + 1)
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT sid, stuff FROM page LIMIT :size::INT) AS shown) AS items,
  (SELECT json_build_array(:sort, CASE WHEN :sort LIKE '%sid' THEN to_json(sid) ELSE to_json(stuff) END)
   FROM page WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next;

-- name: count_stuff(filter)$
-- How many match; only on request, its cost is that of reading them all. @custom_plan
SELECT count(*) FROM Stuff WHERE stuff LIKE :filter;

-- name: get_stuff_sid(sid)^
-- One stuff.
SELECT sid, stuff, version AS etag FROM Stuff WHERE sid = :sid;

-- name: add_stuff(stuff)$
-- A new stuff: its key, or none if it is there already. It looks first: an insert that fails uses up a key.
INSERT INTO Stuff(stuff) SELECT :stuff::TEXT WHERE NOT EXISTS (SELECT FROM Stuff WHERE stuff = :stuff) RETURNING sid;

-- name: add_stuff_batch(items)^
-- Many new stuffs from a JSON array of texts: their keys in that order, and the places of those that are taken already or twice;
-- then nothing is inserted, and no key used up. What others insert meanwhile is found by the insert.
WITH item AS MATERIALIZED (
  SELECT stuff, place - 1 AS place, row_number() OVER (PARTITION BY stuff ORDER BY place) AS nth
  FROM json_array_elements_text(:items::JSON) WITH ORDINALITY AS item(stuff, place)
), there AS MATERIALIZED (
  SELECT place FROM item WHERE nth > 1
  UNION SELECT place FROM item CROSS JOIN LATERAL (SELECT sid FROM Stuff WHERE Stuff.stuff = item.stuff LIMIT 1) AS one
), new AS (
  INSERT INTO Stuff(stuff) SELECT stuff FROM item WHERE NOT EXISTS (SELECT FROM there) ORDER BY place
  ON CONFLICT DO NOTHING RETURNING sid, stuff
)
SELECT
  (SELECT json_build_object('sids', json_agg(sid ORDER BY sid)) FROM new) AS body,
  (SELECT json_agg(place ORDER BY place) FROM (
     SELECT place FROM there UNION ALL
     SELECT place FROM item LEFT JOIN new USING (stuff) WHERE sid IS NULL AND NOT EXISTS (SELECT FROM there)) AS one) AS taken;

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

--
-- UTILISATEUR
--

-- name: get_auth(login)^
-- What authentication and authorization need of a user, at each request. @primary
SELECT id, login, pword, isAdmin, epoch, groups, EXISTS (SELECT FROM Totp WHERE uid = id AND confirmed) AS otp
FROM Utilisateur WHERE login = :login;

-- name: get_auth_lock(login)^
-- The same in the transaction of a write that rests on it: nobody takes a right meanwhile. Administrators take turns before
-- they lock their own rows (the lock of keep_an_admin): two who change each other would deadlock.
SELECT id, login, pword, isAdmin, epoch, groups, EXISTS (SELECT FROM Totp WHERE uid = id AND confirmed) AS otp
FROM Utilisateur WHERE login = :login AND (NOT isAdmin OR pg_advisory_xact_lock(hashtext('Utilisateur.isAdmin')) IS NOT NULL)
FOR NO KEY UPDATE;

-- name: get_auth_share(login)^
-- The same for what leaves this row alone: one user's writes do not wait for each other.
SELECT id, login, pword, isAdmin, epoch, groups, EXISTS (SELECT FROM Totp WHERE uid = id AND confirmed) AS otp
FROM Utilisateur WHERE login = :login FOR SHARE;

-- name: get_auth_session(login, digest)^
-- The same where a token came, with its session, which another epoch has ended. @primary
SELECT u.id, u.login, u.pword, u.isAdmin, u.epoch, u.groups, s.sid, s.salt
FROM Utilisateur AS u JOIN Session AS s ON s.uid = u.id AND s.epoch = u.epoch
WHERE u.login = :login AND s.digest = :digest;

-- name: get_auth_session_lock(login, digest)^
-- The same in the transaction of a write that rests on it: nobody ends the session meanwhile either.
SELECT u.id, u.login, u.pword, u.isAdmin, u.epoch, u.groups, s.sid, s.salt
FROM Utilisateur AS u JOIN Session AS s ON s.uid = u.id AND s.epoch = u.epoch
WHERE u.login = :login AND s.digest = :digest
  AND (NOT u.isAdmin OR pg_advisory_xact_lock(hashtext('Utilisateur.isAdmin')) IS NOT NULL)
FOR NO KEY UPDATE OF u FOR KEY SHARE OF s;

-- name: get_auth_session_share(login, digest)^
-- The same for what leaves the user's row alone.
SELECT u.id, u.login, u.pword, u.isAdmin, u.epoch, u.groups, s.sid, s.salt
FROM Utilisateur AS u JOIN Session AS s ON s.uid = u.id AND s.epoch = u.epoch
WHERE u.login = :login AND s.digest = :digest FOR SHARE OF u FOR KEY SHARE OF s;

-- name: get_auth_key(digest)^
-- The same where a key came. @primary
SELECT u.id, u.login, u.pword, u.isAdmin, u.epoch, u.groups, k.kid, k.scopes, extract(epoch FROM k.until)::FLOAT8 AS until
FROM Utilisateur AS u JOIN Api_Key AS k ON k.uid = u.id
WHERE k.digest = :digest;

-- name: get_auth_key_lock(digest)^
-- The same in the transaction of a write that rests on it: nobody removes the key meanwhile either.
SELECT u.id, u.login, u.pword, u.isAdmin, u.epoch, u.groups, k.kid, k.scopes, extract(epoch FROM k.until)::FLOAT8 AS until
FROM Utilisateur AS u JOIN Api_Key AS k ON k.uid = u.id
WHERE k.digest = :digest AND (NOT u.isAdmin OR pg_advisory_xact_lock(hashtext('Utilisateur.isAdmin')) IS NOT NULL)
FOR NO KEY UPDATE OF u FOR KEY SHARE OF k;

-- name: get_auth_key_share(digest)^
-- The same for what leaves the user's row alone.
SELECT u.id, u.login, u.pword, u.isAdmin, u.epoch, u.groups, k.kid, k.scopes, extract(epoch FROM k.until)::FLOAT8 AS until
FROM Utilisateur AS u JOIN Api_Key AS k ON k.uid = u.id
WHERE k.digest = :digest FOR SHARE OF u FOR KEY SHARE OF k;

-- name: set_pword_rehash(login, old, new)!
-- Replace the hash of a password by a stronger one of the same: tokens live on. @autonomous
UPDATE Utilisateur SET pword = :new
FROM (SELECT set_config('stuff.rehash', 'on', TRUE)) AS quiet
WHERE login = :login AND pword = :old;

-- name: add_register(login, pword)$
-- A new user, no administrator: its key.
INSERT INTO Utilisateur(login, pword) VALUES (:login, :pword) RETURNING id;

-- name: add_users(login, pword, admin)$
-- A new user: its key.
INSERT INTO Utilisateur(login, pword, isAdmin) VALUES (:login, :pword, :admin) RETURNING id;

-- name: set_password(login, pword)!
-- Another password: the tokens of before die, by trigger.
UPDATE Utilisateur SET pword = :pword WHERE login = :login;

-- name: set_epoch(login)!
-- Log out everywhere: the tokens of before die.
UPDATE Utilisateur SET epoch = epoch + 1 WHERE login = :login;

-- name: list_users(filter, sort, number, text, size)^
-- A page of users in one of the orders, of which one is executed, and where the next one begins if there is more. Never a hash.
WITH page AS MATERIALIZED (
  (SELECT id, login, isAdmin, created FROM Utilisateur
   WHERE :sort = 'id' AND login LIKE :filter AND id > coalesce(:number::INT, 0) ORDER BY id LIMIT :size::INT + 1)
  UNION ALL
  (SELECT id, login, isAdmin, created FROM Utilisateur
   WHERE :sort = '-id' AND login LIKE :filter AND id < coalesce(:number::INT, 2147483647) ORDER BY id DESC LIMIT :size::INT + 1)
  UNION ALL
  (SELECT id, login, isAdmin, created FROM Utilisateur
   WHERE :sort = 'login' AND login LIKE :filter AND login > coalesce(:text::TEXT, '') ORDER BY login LIMIT :size::INT + 1)
  UNION ALL
  (SELECT id, login, isAdmin, created FROM Utilisateur
   WHERE :sort = '-login' AND login LIKE :filter AND login < coalesce(:text::TEXT, repeat(chr(1114111), 65))
   ORDER BY login DESC LIMIT :size::INT + 1)
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT * FROM page LIMIT :size::INT) AS shown) AS items,
  (SELECT json_build_array(:sort, CASE WHEN :sort LIKE '%id' THEN to_json(id) ELSE to_json(login) END)
   FROM page WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next;

-- name: count_users(filter)$
-- How many match; only on request, as all counts.
SELECT count(*) FROM Utilisateur WHERE login LIKE :filter;

-- name: get_users_uid(uid)^
-- One user. Never the hash.
SELECT id, login, isAdmin, created, version AS etag FROM Utilisateur WHERE id = :uid;

-- name: upd_users_uid(uid, pword, admin, match)$
-- Change what is given, the rest stays: the new version; 0: the row is at another version than match asks for.
WITH changed AS (
  UPDATE Utilisateur SET pword = coalesce(:pword, pword), isAdmin = coalesce(:admin, isAdmin)
  WHERE id = :uid AND (:match::INT[] IS NULL OR version = ANY(:match))
  RETURNING version
)
SELECT version FROM changed
UNION ALL
SELECT 0 FROM Utilisateur WHERE id = :uid AND :match IS NOT NULL AND NOT EXISTS (SELECT FROM changed);

-- name: del_users_uid(uid, match)$
-- Remove a user who owns nothing.
WITH changed AS (
  DELETE FROM Utilisateur WHERE id = :uid AND (:match::INT[] IS NULL OR version = ANY(:match))
  RETURNING version
)
SELECT version FROM changed
UNION ALL
SELECT 0 FROM Utilisateur WHERE id = :uid AND :match IS NOT NULL AND NOT EXISTS (SELECT FROM changed);

--
-- SESSION
--

-- name: add_session(uid, epoch, digest, salt, seconds, refresh, address, agent, login, request)!
-- A log-in, in the trail as well; refresh is the digest of what renews it, if anything does. @autonomous
WITH made AS (
  INSERT INTO Session(uid, epoch, digest, salt, until, address, agent)
  VALUES (:uid, :epoch, :digest, :salt, now() + make_interval(secs => :seconds::FLOAT8), :address::TEXT, :agent)
  RETURNING sid, until
), renewable AS (
  INSERT INTO Refresh(digest, sid, until) SELECT :refresh::TEXT, sid, until FROM made WHERE :refresh::TEXT IS NOT NULL
)
INSERT INTO Audit(login, request, address, event) SELECT :login, :request, :address::TEXT, 'LOGIN' FROM made;

-- name: get_refresh(digest)^
-- The session that a refresh text renews, unless it is too old. @primary
SELECT s.sid, s.uid, s.epoch, r.spent FROM Refresh AS r JOIN Session AS s USING (sid)
WHERE r.digest = :digest AND r.until > now();

-- name: renew_session(old, new, digest, salt, seconds)$
-- Another token and another refresh text for a session: its key, none if the text is spent.
WITH spent AS (
  UPDATE Refresh SET spent = TRUE WHERE digest = :old AND NOT spent RETURNING sid
), renewed AS (
  UPDATE Session AS s
  SET digest = :digest, salt = :salt, seen = now(), until = now() + make_interval(secs => :seconds::FLOAT8)
  FROM spent WHERE s.sid = spent.sid
  RETURNING s.sid, s.until
)
INSERT INTO Refresh(digest, sid, until) SELECT :new, sid, until FROM renewed RETURNING sid;

-- name: kill_session(sid, login, request, address)!
-- End a session whose refresh text came again: somebody else has it. @autonomous
WITH dead AS (DELETE FROM Session WHERE sid = :sid RETURNING sid)
INSERT INTO Audit(login, request, address, event, key)
SELECT :login, :request, :address, 'REFRESH_REUSED', sid::TEXT FROM dead;

-- name: list_sessions(uid, epoch, current, after, size)^
-- A page of a user's sessions, the newest first, and where the next one begins if there is more. @primary
WITH page AS MATERIALIZED (
  SELECT sid, made, seen, until, address, agent, coalesce(sid = :current::BIGINT, FALSE) AS current FROM Session
  WHERE uid = :uid AND epoch = :epoch AND until > now() AND sid < coalesce(:after::BIGINT, 9223372036854775807)
  ORDER BY sid DESC LIMIT :size::INT + 1
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT * FROM page LIMIT :size::INT) AS shown) AS items,
  (SELECT json_build_array('-sid', sid)
   FROM page WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next;

-- name: del_session(uid, sid)$
-- End a session of a user.
WITH gone AS (DELETE FROM Session WHERE uid = :uid AND sid = :sid RETURNING sid), noted AS (
  INSERT INTO Audit(login, request, address, event, key)
  SELECT request_setting('login'), request_setting('request'),
    request_setting('address'), 'LOGOUT', sid::TEXT FROM gone
)
SELECT sid FROM gone;

-- name: set_sessions_seen(sids)!
-- Requests came with these sessions; written at most once a minute. @autonomous
UPDATE Session SET seen = now() WHERE sid = ANY(:sids::BIGINT[]) AND seen < now() - INTERVAL '1 minute';

-- name: del_sessions_old()!
-- Forget sessions that are over, and what renewed others, at most a thousand at a time. @autonomous
WITH texts AS (
  DELETE FROM Refresh
  WHERE digest = ANY(ARRAY(SELECT digest FROM Refresh WHERE until < now() LIMIT 1000 FOR UPDATE SKIP LOCKED))
)
DELETE FROM Session
WHERE sid = ANY(ARRAY(SELECT sid FROM Session WHERE until < now() - INTERVAL '1 day' LIMIT 1000 FOR UPDATE SKIP LOCKED));

--
-- API_KEY
--

-- name: list_keys(uid, after, size)^
-- A page of a user's keys, and where the next one begins if there is more; never a digest. @primary
WITH page AS MATERIALIZED (
  SELECT kid, note, scopes, made, until, used FROM Api_Key WHERE uid = :uid AND kid > coalesce(:after::INT, 0)
  ORDER BY kid LIMIT :size::INT + 1
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT * FROM page LIMIT :size::INT) AS shown) AS items,
  (SELECT json_build_array('kid', kid)
   FROM page WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next;

-- name: add_key(uid, digest, note, scopes, days)$
-- A new key: its number.
WITH made AS (
  INSERT INTO Api_Key(uid, digest, note, scopes, until)
  VALUES (:uid, :digest, :note, string_to_array(:scopes, ' '), now() + make_interval(days => :days::INT))
  RETURNING kid
), noted AS (
  INSERT INTO Audit(login, request, address, event, key)
  SELECT request_setting('login'), request_setting('request'),
    request_setting('address'), 'KEY_MADE', kid::TEXT FROM made
)
SELECT kid FROM made;

-- name: del_key(uid, kid)$
-- Remove a key of a user.
WITH gone AS (DELETE FROM Api_Key WHERE uid = :uid AND kid = :kid RETURNING kid), noted AS (
  INSERT INTO Audit(login, request, address, event, key)
  SELECT request_setting('login'), request_setting('request'),
    request_setting('address'), 'KEY_REMOVED', kid::TEXT FROM gone
)
SELECT kid FROM gone;

-- name: set_keys_used(kids)!
-- Requests came with these keys; written at most once a minute. @autonomous
UPDATE Api_Key SET used = now() WHERE kid = ANY(:kids::INT[]) AND coalesce(used < now() - INTERVAL '1 minute', TRUE);

--
-- TOTP
--

-- name: add_totp(uid, secret)$
-- A secret that is not in force yet: its user, none if one is in force.
INSERT INTO Totp(uid, secret) VALUES (:uid, :secret)
ON CONFLICT (uid) DO UPDATE SET secret = EXCLUDED.secret, step = 0 WHERE NOT Totp.confirmed
RETURNING uid;

-- name: get_totp(uid)^
-- A user's secret, the last step that was used, and whether it is in force. @primary
SELECT secret, step, confirmed FROM Totp WHERE uid = :uid;

-- name: confirm_totp(uid, step, texts)!
-- Put a secret in force, with the digests of its recovery texts.
WITH done AS (UPDATE Totp SET confirmed = TRUE, step = :step WHERE uid = :uid AND NOT confirmed RETURNING uid), noted AS (
  INSERT INTO Audit(login, request, address, event, key)
  SELECT request_setting('login'), request_setting('request'),
    request_setting('address'), 'TOTP_CONFIRMED', uid::TEXT FROM done
)
INSERT INTO Recovery(uid, digest) SELECT uid, unnest(:texts::TEXT[]) FROM done;

-- name: spend_totp(uid, step)!
-- Use the digits of a step, unless they were: on no server are they good twice. @autonomous
UPDATE Totp SET step = :step WHERE uid = :uid AND step < :step::BIGINT;

-- name: spend_recovery(uid, digest)!
-- Use a recovery text, which is good once. @autonomous
DELETE FROM Recovery WHERE uid = :uid AND digest = :digest;

-- name: del_totp(uid)!
-- Take a second factor out of force, its recovery texts with it.
WITH gone AS (DELETE FROM Totp WHERE uid = :uid RETURNING uid)
INSERT INTO Audit(login, request, address, event, key)
SELECT request_setting('login'), request_setting('request'),
  request_setting('address'), 'TOTP_ENDED', uid::TEXT FROM gone;

-- name: get_groups(uid)$
-- The groups of a user by name, as a JSON array; ADMIN is one of them.
SELECT (
  SELECT coalesce(json_agg(name ORDER BY name), '[]')
  FROM unnest(CASE WHEN isAdmin THEN groups || 'ADMIN'::TEXT ELSE groups END) AS name
) FROM Utilisateur WHERE id = :uid;

-- name: add_group(uid, name)$
-- Put a user into a group: the version of the row, which stays where the user was in it.
WITH changed AS (
  UPDATE Utilisateur SET isAdmin = isAdmin OR :name::TEXT = 'ADMIN',
    groups = CASE WHEN :name::TEXT = 'ADMIN' THEN groups ELSE groups || :name::TEXT END
  WHERE id = :uid AND NOT :name::TEXT = ANY(CASE WHEN isAdmin THEN groups || 'ADMIN'::TEXT ELSE groups END)
  RETURNING version
)
SELECT version FROM changed
UNION ALL
SELECT version FROM Utilisateur WHERE id = :uid AND NOT EXISTS (SELECT FROM changed);

-- name: del_group(uid, name)$
-- Take a user out of a group: the same.
WITH changed AS (
  UPDATE Utilisateur SET isAdmin = isAdmin AND :name::TEXT <> 'ADMIN', groups = array_remove(groups, :name::TEXT)
  WHERE id = :uid AND :name::TEXT = ANY(CASE WHEN isAdmin THEN groups || 'ADMIN'::TEXT ELSE groups END)
  RETURNING version
)
SELECT version FROM changed
UNION ALL
SELECT version FROM Utilisateur WHERE id = :uid AND NOT EXISTS (SELECT FROM changed);

--
-- OWNED
--

-- name: list_owned(sort, number, text, size)^
-- A page of all that is owned in one of the orders, of which one is executed, and where the next one begins if there is more.
-- Those of one text are in the order of their owners, who own such a one once.
WITH page AS MATERIALIZED (  -- which Citus can collect from all shards
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = 'oid' AND oid > coalesce(:number::INT, 0) ORDER BY oid LIMIT :size::INT + 1)
  UNION ALL
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = '-oid' AND oid < coalesce(:number::INT, 2147483647) ORDER BY oid DESC LIMIT :size::INT + 1)
  UNION ALL
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = 'object' AND (object, owner) > (coalesce(:text::TEXT, ''), coalesce(:number::INT, 0))
   ORDER BY object, owner LIMIT :size::INT + 1)
  UNION ALL
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = '-object'
     AND (object, owner) < (coalesce(:text::TEXT, repeat(chr(1114111), 513)), coalesce(:number::INT, 2147483647))
   ORDER BY object DESC, owner DESC LIMIT :size::INT + 1)
  UNION ALL
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = 'owner'
     AND (owner, oid) > (coalesce(CASE WHEN :sort = 'owner' THEN :text::INT END, 0), coalesce(:number::INT, 0))
   ORDER BY owner, oid LIMIT :size::INT + 1)
  UNION ALL
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = '-owner'
     AND (owner, oid) < (coalesce(CASE WHEN :sort = '-owner' THEN :text::INT END, 2147483647), coalesce(:number::INT, 2147483647))
   ORDER BY owner DESC, oid DESC LIMIT :size::INT + 1)
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT * FROM page LIMIT :size::INT) AS shown) AS items,
  (SELECT CASE
     WHEN :sort LIKE '%oid' THEN json_build_array(:sort, oid)
     WHEN :sort LIKE '%object' THEN json_build_array(:sort, owner, object)
     ELSE json_build_array(:sort, oid, owner::TEXT) END
   FROM page WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next;

-- name: list_owned_uid(uid, after, size)^
-- A page of what one user owns.
SELECT json_agg(shown) AS items,
  CASE WHEN count(*) = :size::INT
    AND (SELECT oid FROM Owned WHERE owner = :uid AND oid > max(shown.oid) ORDER BY oid LIMIT 1) IS NOT NULL
    THEN json_build_array('oid', max(shown.oid)) END AS next
FROM (
  SELECT oid, object, owner FROM Owned WHERE owner = :uid AND oid > coalesce(:after::INT, 0) ORDER BY oid LIMIT :size::INT
) AS shown;

-- name: list_owned_uid_by(uid, sort, number, text, size)^
-- The same in another order than that of the keys.
WITH page AS MATERIALIZED (
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = '-oid' AND owner = :uid AND oid < coalesce(:number::INT, 2147483647) ORDER BY oid DESC LIMIT :size::INT + 1)
  UNION ALL
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = 'object' AND owner = :uid AND object > coalesce(:text::TEXT, '') ORDER BY object LIMIT :size::INT + 1)
  UNION ALL
  (SELECT oid, object, owner FROM Owned
   WHERE :sort = '-object' AND owner = :uid AND object < coalesce(:text::TEXT, repeat(chr(1114111), 513))
   ORDER BY object DESC LIMIT :size::INT + 1)
)
SELECT
  (SELECT json_agg(shown) FROM (SELECT * FROM page LIMIT :size::INT) AS shown) AS items,
  (SELECT json_build_array(:sort, CASE WHEN :sort = '-oid' THEN to_json(oid) ELSE to_json(object) END)
   FROM page WHERE (SELECT count(*) FROM page) > :size::INT OFFSET :size::INT - 1 LIMIT 1) AS next;

-- name: count_owned()$
-- How much there is in all.
SELECT count(*) FROM Owned;

-- name: count_owned_uid(uid)$
-- How much one user owns.
SELECT count(*) FROM Owned WHERE owner = :uid;

-- name: add_owned_uid(uid, object)$
-- A new object of a user: its key.
INSERT INTO Owned(object, owner) VALUES (:object, :uid) RETURNING oid;

-- name: get_owned_uid_oid(uid, oid)^
-- One object of a user.
SELECT oid, object, owner, version AS etag FROM Owned WHERE owner = :uid AND oid = :oid;

-- name: upd_owned_uid_oid(uid, oid, object, match)$
-- Change an object of a user.
WITH changed AS (
  UPDATE Owned SET object = :object
  WHERE owner = :uid AND oid = :oid AND (:match::INT[] IS NULL OR version = ANY(:match))
  RETURNING version
)
SELECT version FROM changed
UNION ALL
SELECT 0 FROM Owned WHERE owner = :uid AND oid = :oid AND :match IS NOT NULL AND NOT EXISTS (SELECT FROM changed);

-- name: del_owned_uid_oid(uid, oid, match)$
-- Remove an object of a user.
WITH changed AS (
  DELETE FROM Owned WHERE owner = :uid AND oid = :oid AND (:match::INT[] IS NULL OR version = ANY(:match))
  RETURNING version
)
SELECT version FROM changed
UNION ALL
SELECT 0 FROM Owned WHERE owner = :uid AND oid = :oid AND :match IS NOT NULL AND NOT EXISTS (SELECT FROM changed);
