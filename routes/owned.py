"""What users own: the lists for administrators, the objects for their owner alone."""

from FlaskSimpleAuth import Blueprint, err

from database import db
from engine.http.wire import Count, Created, IfMatch, changed, created, page
from engine.types import Cursor, Key, Limit
from model import ObjectText, Owned, OwnedKey, OwnedSort, OwnSort

owned = Blueprint("owned", __name__)


# GET /owned /object: all objects
@owned.get("/owned", authorize="ADMIN")
@owned.get("/object", authorize="ADMIN", endpoint="get_object")
def get_owned(
    count: Count, limit: Limit = Limit(100), after: Cursor = Cursor(), sort: OwnedSort = OwnedSort("oid")
) -> list[Owned]:
    """List all objects of all users."""
    at = after.of(sort)
    rows = db.list_owned(sort=sort, number=at.number, text=at.text, size=limit)
    return page(rows, db.count_owned() if count else None)


# GET /owned/<uid>: one's objects
@owned.get("/owned/<uid>", authorize=("user",))
def get_owned_uid(
    uid: Key, count: Count, limit: Limit = Limit(100), after: Cursor = Cursor(), sort: OwnSort = OwnSort("oid")
) -> list[Owned]:
    """List one's own objects."""
    at = after.of(sort)
    if sort == "oid":  # planned once; a query with a branch for each order would be planned anew each time
        rows = db.list_owned_uid(uid=uid, after=at.number, size=limit)
    else:
        rows = db.list_owned_uid_by(uid=uid, sort=sort, number=at.number, text=at.text, size=limit)
    return page(rows, db.count_owned_uid(uid=uid) if count else None)


# POST /owned/<uid>: create
@owned.post("/owned/<uid>", authorize=("user",))
def post_owned_uid(uid: Key, object: ObjectText) -> Created[OwnedKey]:
    """Own one more object.

    409: one owns such an object already.
    """
    oid = db.add_owned_uid(uid=uid, object=object)
    return created({"oid": oid}, f"/owned/{uid}/{oid}")


# GET /owned/<uid>/<oid>: read
@owned.get("/owned/<uid>/<oid>", authorize=("user",))
def get_owned_uid_oid(uid: Key, oid: Key) -> Owned:
    """Read one of one's objects."""
    return db.get_owned_uid_oid(uid=uid, oid=oid) or err("object not found", 404)


# PUT PATCH /owned/<uid>/<oid>: change
@owned.route("/owned/<uid>/<oid>", methods=["PUT", "PATCH"], authorize=("user", "uid"))
def put_owned_uid_oid(match: IfMatch, uid: Key, oid: Key, object: ObjectText) -> None:
    """Change one of one's objects.

    409: one owns such an object already.
    """
    return changed(db.upd_owned_uid_oid(uid=uid, oid=oid, object=object, match=match))


# DELETE /owned/<uid>/<oid>: remove
@owned.delete("/owned/<uid>/<oid>", authorize=("user", "uid"))
def delete_owned_uid_oid(match: IfMatch, uid: Key, oid: Key) -> None:
    """Remove one of one's objects."""
    return changed(db.del_owned_uid_oid(uid=uid, oid=oid, match=match))
