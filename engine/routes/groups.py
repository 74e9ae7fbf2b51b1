"""The groups that users are in, as administrators manage them."""

from FlaskSimpleAuth import Blueprint, err

from engine.auth.groups import known
from engine.db.reference import db
from engine.http.wire import changed, declare
from engine.types import Key

groups = Blueprint("groups", __name__)


# GET /users/<uid>/groups: in which groups
@groups.get("/users/<uid>/groups", authorize=("account", "uid"))
def get_groups(uid: Key) -> list[str]:
    """List the groups of a user: an administrator those of any, a user one's own."""
    return db.get_groups(uid=uid) or err("object not found", 404)


# PUT /users/<uid>/groups/<group>: put into it
@groups.put("/users/<uid>/groups/<path:group>", authorize="ADMIN")
@declare(account="uid")
def put_groups(uid: Key, group: str) -> None:
    """Put a user into a group that the configuration names, or ADMIN.

    The tokens of the user die.
    """
    return changed(db.add_group(uid=uid, name=known(group)))


# DELETE /users/<uid>/groups/<group>: take out of it
@groups.delete("/users/<uid>/groups/<path:group>", authorize="ADMIN")
@declare(account="uid")
def delete_groups(uid: Key, group: str) -> None:
    """Take a user out of a group: the tokens of the user die.

    409: this is the last administrator.
    """
    return changed(db.del_group(uid=uid, name=known(group)))
