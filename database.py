"""The database: the `db` reference, and the hook that commits or rolls back. Routes import `db` alone."""

from engine.db.reference import db
from engine.http.response import Response
from engine.http.transaction import tell_position

__all__ = ["db", "end"]


def end(response: Response) -> Response:
    """Commit what a 2xx or 3xx did, roll back all else. The answer is complete by now: the client hears of what was kept."""
    if response.status_code < 400:
        if position := db.commit():
            tell_position(response, position)
    else:
        db.rollback()
    return response
