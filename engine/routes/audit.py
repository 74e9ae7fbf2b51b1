"""The audit trail, for administrators: who did what to which row, when, from where, before and after."""

from FlaskSimpleAuth import Blueprint

from engine.db.reference import db
from engine.http.wire import Count, page
from engine.types import Change, Cursor, Limit, Login, Name, Time

trail = Blueprint("audit", __name__)


# GET /audit: search, page by page
@trail.get("/audit", authorize="ADMIN")
def get_audit(
    count: Count,
    login: Login | None = None,
    table: Name | None = None,
    since: Time | None = None,
    limit: Limit = Limit(100),
    after: Cursor = Cursor(),
) -> list[Change]:
    """List the trail, the oldest first: of one login, of one table, since a time."""
    which = {"login": login, "tab": table, "since": since}
    rows = db.list_audit(**which, number=after.of("aid").number, size=limit)
    return page(rows, db.count_audit(**which) if count else None)
