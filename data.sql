-- Demonstration data, for a local instance: never loaded on a deployed one unless asked for by name.
INSERT INTO Stuff(stuff) VALUES ('Chair'), ('Desk');
