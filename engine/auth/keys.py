"""Keys of programs: each may do what its scopes say, no more than its user may, and nothing to the account itself."""

import secrets
import time
from typing import Any

from flask import current_app

from engine.auth.user import Memory, digest
from engine.db.reference import db
from engine.http.request import here
from engine.http.transaction import READS
from engine.http.wire import declared
from engine.problem import Problem
from engine.types import Scopes, refuse


class Keys:
    """Those that programs call with: the realm, an underscore, and 256 random bits."""

    def __init__(self, realm: str) -> None:
        self.prefix = f"{realm}_"
        self.memory = Memory("get_auth_key")

    def check(self, key: str) -> dict[str, Any]:
        """The user whose key this is.

        :raises ErrorResponse: 401 if it is nobody's, or expired.
        """
        if user := self.memory.recall(key):
            return user
        row = db.get_auth_key(digest=digest(key))
        if row is None:
            refuse("invalid key", 401)
        if row["until"] <= time.time():
            refuse("expired key", 401)
        return self.memory.keep(key, row, row["until"], digest=digest(key))

    def add(self, user: dict[str, Any], note: str, scopes: Scopes, days: int) -> dict[str, Any]:
        """A new key for a user: its number and, for this once, the key.

        :raises ErrorResponse: 400 if a scope names nothing that is served.
        """
        rules = [rule.rule for rule in current_app.url_map.iter_rules()]
        nouns = {_noun(rule) for rule in rules} | {"*"}
        if unknown := [scope for scope in scopes.split(" ") if scope.partition(":")[0] not in nouns]:
            refuse(f'error on parameter "scopes": nothing is called {unknown[0]}')
        key = self.prefix + secrets.token_urlsafe(32)
        return {"kid": db.add_key(uid=user["id"], digest=digest(key), note=note, scopes=scopes, days=days), "key": key}


def _noun(rule: str) -> str:
    return rule.split("/")[1].partition(".")[0]


def check_scope(user: dict[str, Any]) -> None:
    """See that the key that a user came with may be used for the request.

    :raises Problem: 403, it may not: a scope is missing, or it is about the account itself.
    """
    asked = here()
    account, own = declared().get("account"), str(user["id"])
    if account is True or (account and asked.method not in READS and (asked.view_args or {}).get(account) == own):
        raise Problem(403, "a key may do nothing to its own account", "key_not_allowed")
    need = f"{_noun(str(asked.url_rule))}:{'read' if asked.method in READS else 'write'}"
    if not {need, "*"} & set(user["scopes"]):
        raise Problem(403, f'scope "{need}" is missing', "scope_missing")
