"""The database: the `db` reference. Routes import `db` alone; its queries are those of queries.sql."""

from engine.db.database import db, init_app

__all__ = ["db", "init_app"]
