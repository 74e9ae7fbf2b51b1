"""The audit trail, for administrators: who did what to which row, when, from where, before and after."""

from typing import Any

from FlaskSimpleAuth import Blueprint

from database import db
from model import Cursor, Limit, Login, Name, Time
from wire import page

trail = Blueprint("audit", __name__)


# GET /audit: search, page by page
@trail.get("/audit", authorize="ADMIN")
def get_audit(
    login: Login | None = None,
    table: Name | None = None,
    since: Time | None = None,
    limit: Limit = Limit(100),
    after: Cursor = Cursor(),
) -> Any:
    """List the trail, the oldest first: of one login, of one table, since a time."""
    return page(db.list_audit(login=login, tab=table, since=since, number=after.of("aid").number, size=limit))
