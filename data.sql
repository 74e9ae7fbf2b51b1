-- Demonstration data, for a local instance: never loaded on a deployed one unless asked for by name.
INSERT INTO Stuff(stuff) VALUES ('Chair'), ('Desk');

-- the users of users.in; --cost comes from the environment (BCRYPT_COST)
\copy Utilisateur(login, pword, isAdmin) FROM PROGRAM './pass2csv.py users.in' WITH (FORMAT csv)
SELECT setval('utilisateur_id_seq', (SELECT max(id) FROM Utilisateur)) \gset ignored_

INSERT INTO Owned(object, owner)
  SELECT object, id
  FROM (VALUES (1, 'calvin', 'Box'), (2, 'hobbes', 'Box'), (3, 'susie', 'Box'),
               (4, 'calvin', 'Tiger'), (5, 'calvin', 'Wagon'), (6, 'calvin', 'Time Machine')) AS new(place, login, object)
  JOIN Utilisateur USING (login)
  ORDER BY place;
