"""Tokens: signed for a session and an epoch, verified without a round trip of their own, remembered while good."""

import calendar
import hmac
import re
import string
import time
from typing import Any
from urllib.parse import quote, unquote

import jwt
from FlaskSimpleAuth import ErrorResponse, err

from engine.auth.user import Memory, digest
from engine.db.reference import db

# what stands for itself in a token, as it is in a header; the rest comes as in a URL
PLAIN = string.punctuation.replace(":", "").replace("%", "")


class Tokens:
    """Signed, short-lived proofs of identity: `stuff:login:YYYYMMDDhhmmss:signature`, or JWT (RFC 7519) where configured.

    What a header does not take of a login is percent-encoded (RFC 3986).
    """

    def __init__(self, conf: dict[str, Any]) -> None:
        self.kind, self.realm, self.delay = conf["FSA_TOKEN_TYPE"], conf["FSA_REALM"], 60 * conf["FSA_TOKEN_DELAY"]
        self.secret = (conf["FSA_TOKEN_SECRET"] or "").encode()  # an empty one does not start, see commands
        self.memory = Memory("get_auth_session")

    def make(self, user: dict[str, Any], salt: str) -> tuple[str, float]:
        """A token for a user and a session, for now and a while, and when it expires, in the seconds of `time.time()`.

        :param salt: what is random in it: two log-ins of one second have different tokens.
        """
        end = time.time() + self.delay
        if self.kind == "jwt":
            claims = {"sub": user["login"], "aud": self.realm, "exp": int(end), "jti": salt}
            claims |= {"uid": user["id"], "epoch": user["epoch"]}
            return jwt.encode(claims, self.secret, "HS256"), end
        data = f"{self.realm}:{quote(user['login'], PLAIN)}:{time.strftime('%Y%m%d%H%M%S', time.gmtime(end))}"
        return f"{data}:{self._sign(data, user | {'salt': salt})}", end

    def check(self, token: str) -> dict[str, Any]:
        """The user whom a token proves.

        :raises ErrorResponse: 401 if it is forged, expired or revoked; the token itself is never repeated.
        """
        if user := self.memory.recall(token):
            return user
        found = self._jwt(token) if self.kind == "jwt" else self._readable(token)
        if found is None:
            raise ErrorResponse("invalid token", 401)
        row, end = found
        return self.memory.keep(token, row, end, login=row["login"], digest=digest(token))

    def _sign(self, data: str, user: dict[str, Any]) -> str:
        return hmac.digest(self.secret, f"{data}:{user['id']}:{user['epoch']}:{user['salt']}".encode(), "sha256").hex()

    def _readable(self, token: str) -> tuple[dict[str, Any], float] | None:
        data, _, signature = token.rpartition(":")
        realm, login, end = (data.split(":") + [""] * 3)[:3]
        if data.count(":") != 2 or realm != self.realm or not re.fullmatch("[0-9]{14}", end) or not signature.isascii():
            return None
        user = db.get_auth_session(login=unquote(login), digest=digest(token))
        if not user or not hmac.compare_digest(self._sign(data, user), signature):
            return None
        if end <= time.strftime("%Y%m%d%H%M%S", time.gmtime()):
            err("expired token", 401)
        return user, calendar.timegm(time.strptime(end, "%Y%m%d%H%M%S"))

    def _jwt(self, token: str) -> tuple[dict[str, Any], float] | None:
        try:
            claims = jwt.decode(token, self.secret, ["HS256"], audience=self.realm, options={"require": ["exp", "sub", "aud"]})
        except jwt.ExpiredSignatureError:
            err("expired token", 401)
        except jwt.PyJWTError:
            return None
        user = db.get_auth_session(login=claims["sub"], digest=digest(token))
        right = user and (user["id"], user["epoch"]) == (claims.get("uid"), claims.get("epoch"))
        return (user, claims["exp"]) if right else None
