"""One blueprint a resource; each route is a signature, a rule, and a call of a named query."""
