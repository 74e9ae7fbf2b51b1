"""Users, as administrators manage them."""

from FlaskSimpleAuth import Blueprint, err

from database import db
from engine.auth import auth
from engine.http.wire import Count, Created, IfMatch, changed, created, declare, page
from engine.types import Boolean, Cursor, Key, Limit, Login, Password, Pattern, RowKey
from model import User, UserIn, UserSort

users = Blueprint("users", __name__)


# GET /users: search, page by page
@users.get("/users", authorize="ADMIN")
def get_users(
    count: Count,
    filter: Pattern | None = None,
    limit: Limit = Limit(100),
    after: Cursor = Cursor(),
    sort: UserSort = UserSort("id"),
) -> list[User]:
    """List users, all of them or those whose login matches a SQL LIKE pattern."""
    at = after.of(sort)
    rows = db.list_users(filter=filter or "%", sort=sort, number=at.number, text=at.text, size=limit)
    return page(rows, db.count_users(filter=filter or "%") if count else None)


# POST /users: create
@users.post("/users", authorize="ADMIN")
def post_users(login: Login, _pass: Password, admin: Boolean | None = None) -> Created[RowKey]:
    """Create a user.

    409: the login is already taken.
    """
    uid = db.add_users(login=login, pword=auth.hash_password(_pass, "pass", login), admin=bool(admin))
    return created(uid, f"/users/{uid}")


# POST /users-mgt: create, from one structure
@users.post("/users-mgt", authorize="ADMIN")
def post_users_mgt(u: UserIn) -> Created[RowKey]:
    """Create a user from one structure.

    409: the login is already taken.
    """
    uid = db.add_users(login=u.login, pword=auth.hash_password(u.password, "u.password", u.login), admin=u.isAdmin)
    return created(uid, f"/users/{uid}")


# GET /users/<uid>: read
@users.get("/users/<uid>", authorize=("account", "uid"))
def get_users_uid(uid: Key) -> User:
    """Read a user: an administrator any, a user oneself."""
    return db.get_users_uid(uid=uid) or err("object not found", 404)


# PATCH /users/<uid>: change
@users.patch("/users/<uid>", authorize="ADMIN")
@declare(account="uid")
def patch_users_uid(match: IfMatch, uid: Key, _pass: Password | None = None, admin: Boolean | None = None) -> None:
    """Change what is given of a user: another password or role kills the tokens.

    409: this is the last administrator.
    """
    pword = auth.hash_password(_pass, "pass") if _pass is not None else None
    return changed(db.upd_users_uid(uid=uid, pword=pword, admin=admin, match=match))


# DELETE /users/<uid>: remove
@users.delete("/users/<uid>", authorize="ADMIN")
@declare(account="uid")
def delete_users_uid(match: IfMatch, uid: Key) -> None:
    """Remove a user.

    409: the user owns objects, or is the last administrator.
    """
    return changed(db.del_users_uid(uid=uid, match=match))
