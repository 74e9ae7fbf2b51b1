"""The audit trail, for administrators: who did what to which row, when, from where, before and after."""

from FlaskSimpleAuth import Blueprint

from engine.db.reference import db
from engine.http.wire import Count, page
from engine.types import Change, Limit, Login, Name, Place, Text, Time, TrailSort

trail = Blueprint("audit", __name__)


# GET /audit: search, page by page
@trail.get("/audit", authorize="ADMIN")
def get_audit(
    count: Count,
    login: Login | None = None,
    table: Name | None = None,
    key: Text | None = None,
    since: Time | None = None,
    sort: TrailSort = TrailSort("aid"),
    limit: Limit = Limit(100),
    after: Place = Place(),
) -> list[Change]:
    """List the trail: of one login, of one table, of one row of it, since a time.

    In the order `aid`, which is by transaction, nothing appears late: a row is shown once every transaction that began before
    its own has ended. `-aid` is the reverse, up to what was committed last.

    410: the place of `after` is no more, a restore undid it.
    """
    which = {"login": login, "tab": table, "key": key, "since": since}
    place = {**which, **after.of(sort).parts, "size": limit}
    rows = db.list_audit(**place) if sort == "aid" else db.list_audit_desc(**place)
    return page(after.checked(rows), db.count_audit(**which) if count else None)
