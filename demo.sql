-- Something to look at, by `make demo` on a local instance: more stuff, users, objects, and a story in the trail.
-- To run it again changes nothing. The users that it makes have susie's password.
BEGIN;
SELECT set_config('engine.login', 'calvin', TRUE), set_config('engine.request', 'demo', TRUE) \gset ignored_

INSERT INTO Stuff(stuff)
  SELECT material || ' ' || thing
  FROM unnest('{Oak,Pine,Walnut,Cherry,Steel,Brass,Glass,Marble,Wicker,Velvet,Leather,Paper}'::TEXT[]) WITH ORDINALITY AS m(material, x),
       unnest('{chair,desk,lamp,shelf,stool,table,clock,mirror,chest,screen,rack,bench,vase,frame}'::TEXT[]) WITH ORDINALITY AS t(thing, y)
  WHERE (material, thing) <> ('Glass', 'lamp') OR NOT EXISTS (SELECT FROM Stuff WHERE stuff = 'Green glass lamp')
  ORDER BY (x * 7 + y * 11) % 31, x, y
  ON CONFLICT DO NOTHING;

INSERT INTO Utilisateur(login, pword, isAdmin)
  SELECT login, pword, place = 1
  FROM unnest('{rosalyn,moe,ada,grace,alan,edsger,barbara,donald,hedy,linus,margaret,dennis}'::TEXT[]) WITH ORDINALITY AS new(login, place),
       (SELECT pword FROM Utilisateur WHERE login = 'susie') AS susie
  WHERE login NOT IN (SELECT login FROM Utilisateur)
  ORDER BY place;

INSERT INTO Owned(object, owner)
  SELECT object, id
  FROM Utilisateur,
       unnest('{Notebook,Bicycle,Kite,Telescope,Piano,Snow globe,Comet,Chessboard,Umbrella,Compass}'::TEXT[]) WITH ORDINALITY AS o(object, place)
  WHERE (id * 3 + place) % 4 = 0
  ORDER BY place, id
  ON CONFLICT DO NOTHING;
COMMIT;

-- the story: several people at one lamp, in transactions of their own
SELECT EXISTS (SELECT FROM Stuff WHERE stuff = 'Green glass lamp') AS told \gset
\if :told
\else
BEGIN;
SELECT set_config('engine.login', 'susie', TRUE), set_config('engine.request', 'demo-1', TRUE), set_config('engine.address', '192.0.2.7', TRUE) \gset ignored_
UPDATE Stuff SET stuff = 'Glass lamp, chipped' WHERE stuff = 'Glass lamp';
COMMIT;
BEGIN;
SELECT set_config('engine.login', 'hobbes', TRUE), set_config('engine.request', 'demo-2', TRUE), set_config('engine.address', '192.0.2.8', TRUE) \gset ignored_
UPDATE Stuff SET stuff = 'Glass lamp, mended' WHERE stuff = 'Glass lamp, chipped';
INSERT INTO Owned(object, owner) SELECT 'Pot of glue', id FROM Utilisateur WHERE login = 'hobbes';
COMMIT;
BEGIN;
SELECT set_config('engine.login', 'calvin', TRUE), set_config('engine.request', 'demo-3', TRUE), set_config('engine.address', '192.0.2.9', TRUE) \gset ignored_
UPDATE Stuff SET stuff = 'Green glass lamp' WHERE stuff = 'Glass lamp, mended';
DELETE FROM Owned WHERE object = 'Pot of glue';
UPDATE Utilisateur SET isAdmin = FALSE WHERE login = 'rosalyn';
COMMIT;
\endif
