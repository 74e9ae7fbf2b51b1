-- Empty every table of data; the schema and its version stay.
TRUNCATE Stuff RESTART IDENTITY;
