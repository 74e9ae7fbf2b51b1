"""Stuff: create, read, update, delete and search, open to all."""

from collections.abc import Callable
from typing import Any

from FlaskSimpleAuth import Blueprint, err

from database import db
from engine.http.wire import Count, Created, IfMatch, changed, created, created_all, declare, page, taken
from engine.types import Cursor, Key, Limit, Pattern
from model import Stuff, StuffItems, StuffKey, StuffKeys, StuffSort, StuffText

stuff = Blueprint("stuff", __name__)
# a query for each order: one with a branch for each would be planned anew each time
LISTS: dict[str, Callable[..., dict[str, Any]]] = {
    "sid": lambda **at: db.list_stuff_sid(**at),
    "-sid": lambda **at: db.list_stuff_sid_desc(**at),
    "stuff": lambda **at: db.list_stuff_stuff(**at),
    "-stuff": lambda **at: db.list_stuff_stuff_desc(**at),
}


# GET /stuff: search, page by page
@stuff.get("/stuff", authorize="OPEN")
def get_stuff(
    count: Count,
    filter: Pattern | None = None,
    limit: Limit = Limit(100),
    after: Cursor = Cursor(),
    sort: StuffSort = StuffSort("sid"),
) -> list[Stuff]:
    """List stuff, all of it or what matches a SQL LIKE pattern."""
    at = after.of(sort)
    if not filter:
        rows = LISTS[sort](after=at.key, size=limit)
    else:
        rows = db.search_stuff(filter=filter, sort=sort, number=at.number, text=at.text, size=limit)
    return page(rows, db.count_stuff(filter=filter or "%") if count else None)


# POST /stuff: create
@stuff.post("/stuff", authorize="OPEN")
def post_stuff(stuff: StuffText) -> Created[StuffKey]:
    """Create a stuff.

    409: the text is already taken.
    """
    sid = db.add_stuff(stuff=stuff) or taken("stuff")
    return created({"sid": sid}, f"/stuff/{sid}")


# POST /stuff/batch: create many, all or none
@stuff.post("/stuff/batch", authorize="OPEN")
@declare(located=False, csv="items")
def post_stuff_batch(items: StuffItems) -> Created[StuffKeys]:
    """Create up to 10,000 stuffs at once, all or none.

    The keys come in the order given.

    409: a text is already taken or comes twice, `errors` names the places.
    """
    return created_all(db.add_stuff_batch(items=items))


# GET /stuff/<sid>: read
@stuff.get("/stuff/<sid>", authorize="OPEN")
def get_stuff_sid(sid: Key) -> Stuff:
    """Read one stuff."""
    return db.get_stuff_sid(sid=sid) or err("object not found", 404)


# PUT PATCH /stuff/<sid>: change
@stuff.route("/stuff/<sid>", methods=["PUT", "PATCH"], authorize="OPEN")
def put_stuff_sid(match: IfMatch, sid: Key, stuff: StuffText) -> None:
    """Change a stuff.

    409: the text is already taken.
    """
    return changed(db.upd_stuff_sid(sid=sid, stuff=stuff, match=match))


# DELETE /stuff/<sid>: remove
@stuff.delete("/stuff/<sid>", authorize="OPEN")
def delete_stuff_sid(match: IfMatch, sid: Key) -> None:
    """Remove a stuff."""
    return changed(db.del_stuff_sid(sid=sid, match=match))
