"""The meaning of `authorize=`: groups and object rules."""

from typing import Any

from engine.auth.user import caller
from engine.db.reference import db


def is_admin(_: str) -> bool:
    """Group ADMIN."""
    return caller()["isadmin"] is True


def is_user(_: str, uid: int, __: Any) -> bool | None:
    """Object rule ("user",): the path names the caller; None, hence 404, if it names nobody."""
    db.share()  # what it guards are the caller's objects, never the row of the user
    return True if caller()["id"] == uid else False if db.get_users_uid(uid=uid) else None


def is_user_or_admin(login: str, uid: int, mode: Any) -> bool | None:
    """Object rule ("account",): the caller's own account, or any for an administrator."""
    own = is_user(login, uid, mode)
    return own if own is None else own or is_admin(login)
