"""The `db` reference: it can be imported before the database is configured, and is one object for all threads."""

from typing import Any

from ProxyPatternPool import Proxy

from engine.db.database import DB

db: Any = Proxy()


def refer(database: DB) -> None:
    """Make `db` lead to a database.

    The proxy looks each name up through `__getattr__`, which costs an exception a call; what every request uses is set on it.
    """
    db.set(database)
    vars(db).update(
        {
            name: getattr(database, name)
            for name in (*database.queries, "open", "verify", "assume", "share", "commit", "rollback", "ran")
        }
    )
