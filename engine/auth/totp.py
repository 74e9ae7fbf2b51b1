"""A second factor: time-based one-time passwords (RFC 6238), with recovery texts. No library: the algorithm is ten lines."""

import base64
import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from engine.auth import audit
from engine.auth.user import digest
from engine.db.reference import db
from engine.http.request import here
from engine.problem import Problem

STEP, DIGITS, AROUND = 30, 6, (0, -1, 1)  # seconds, digits, and the steps that are taken for now: clocks differ
SECRET, NONCE, TAG = 20, 16, 16  # bytes
RECOVERIES, RECOVERY = 10, 10  # texts, and bytes of each


def code(secret: bytes, step: int) -> str:
    """The digits of a step (RFC 4226 5.3)."""
    mac = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    place = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[place : place + 4])[0] & 0x7FFFFFFF) % 10**DIGITS:0{DIGITS}}"


class Sealed:
    """Encrypts secrets as the database keeps them: a pad by HMAC-SHA-256 of a new nonce, then a tag that covers whose it is.

    :param key: 256 bits at least, of its own: who reads the database has no secrets, who has the token secret neither.
    """

    def __init__(self, key: bytes) -> None:
        self._pad, self._tag = (hmac.digest(key, use, "sha256") for use in (b"totp pad", b"totp tag"))

    def seal(self, uid: int, secret: bytes) -> str:
        """A user's secret as it is kept."""
        nonce = secrets.token_bytes(NONCE)
        hidden = self._hide(nonce, secret)
        return (nonce + hidden + self._sign(uid, nonce + hidden)).hex()

    def open(self, uid: int, kept: str) -> bytes:
        """The secret of a user.

        :raises ValueError: it is another user's, was changed, or sealed with another key.
        """
        raw = bytes.fromhex(kept)
        body, tag = raw[:-TAG], raw[-TAG:]
        if not hmac.compare_digest(self._sign(uid, body), tag):
            raise ValueError("the secret of a second factor cannot be opened: is TOTP_KEY another one?")
        return self._hide(body[:NONCE], body[NONCE:])

    def _hide(self, nonce: bytes, secret: bytes) -> bytes:
        pad = hmac.digest(self._pad, nonce, "sha256")  # 32 bytes, of which no two are for the same secret
        return bytes(one ^ other for one, other in zip(secret, pad[: len(secret)], strict=True))

    def _sign(self, uid: int, body: bytes) -> bytes:
        return hmac.digest(self._tag, f"{uid}:".encode() + body, hashlib.sha256)[:TAG]


class Totp:
    """One-time passwords of users.

    :param count: counts an attempt of a login before it is made, and returns what takes it back.
    """

    def __init__(self, conf: dict[str, Any], count: Callable[[str], Callable[[], object]]) -> None:
        self.realm, self.count = conf["FSA_REALM"], count
        self.sealed = Sealed(str(conf["TOTP_KEY"]).encode()) if conf["TOTP_KEY"] else None

    def begin(self, user: dict[str, Any]) -> dict[str, str]:
        """A new secret for a user, not in force before it is confirmed: as text, and as what applications read (otpauth:).

        :raises Problem: 409 if one is in force, or no key for secrets is configured.
        """
        if self.sealed is None:
            raise Problem(409, "this server keeps no second factors: it has no TOTP_KEY", "totp_unavailable")
        secret = secrets.token_bytes(SECRET)
        if db.add_totp(uid=user["id"], secret=self.sealed.seal(user["id"], secret)) is None:
            raise Problem(409, "a second factor is in force already", "totp_in_force")
        text, realm, login = base64.b32encode(secret).decode(), quote(self.realm), quote(user["login"])
        return {"secret": text, "uri": f"otpauth://totp/{realm}:{login}?secret={text}&issuer={realm}"}

    def check(self, user: dict[str, Any], otp: str | None) -> None:
        """See that what came beside a password is good: digits that were not used yet, or a recovery text.

        Attempts count as attempts at the password.

        :raises Problem: 401 if nothing came, or it is not right, 429 after too many attempts.
        """
        if otp is None:
            raise Problem(401, "a one-time password is wanted: X-OTP, or otp at POST /login", "otp_required")
        proven = here().environ
        again = proven.get("engine.otp") == (user["id"], otp)  # the request runs again
        forget = self.count(user["login"])
        if not (again or self._spend(user["id"], otp)):
            audit.event("OTP_FAILED", user["login"])
            raise Problem(401, "invalid one-time password", "invalid_otp")
        forget()
        proven["engine.otp"] = user["id"], otp

    def confirm(self, user: dict[str, Any], otp: str) -> dict[str, list[str]]:
        """Put a secret in force by its digits: the recovery texts, told this once.

        :raises Problem: 400 if the digits are not those of a secret that waits for them.
        """
        row = db.get_totp(uid=user["id"])
        step = self._step(user["id"], row, otp) if row and not row["confirmed"] else None
        texts = [base64.b32encode(secrets.token_bytes(RECOVERY)).decode().lower() for _ in range(RECOVERIES)]
        kept = "{" + ",".join(map(digest, texts)) + "}"
        if step is None or not db.confirm_totp(uid=user["id"], step=step, texts=kept):
            raise Problem(400, "these are not the digits of a secret that waits for them", "wrong_otp", "otp")
        return {"recovery": texts}

    def end(self, user: dict[str, Any], otp: str) -> None:
        """Take the second factor out of force.

        :raises Problem: 400 if none is in force, or this is not what came in X-OTP, nor good by itself.
        """
        if here().environ.get("engine.otp") != (user["id"], otp) and not self._spend(user["id"], otp):
            raise Problem(400, "these are not the digits of a second factor in force", "wrong_otp", "otp")
        db.del_totp(uid=user["id"])

    def _spend(self, uid: int, otp: str) -> bool:
        row = db.get_totp(uid=uid)
        if row is None or not row["confirmed"]:
            return False
        if (step := self._step(uid, row, otp)) is not None:
            return bool(db.spend_totp(uid=uid, step=step))
        return bool(db.spend_recovery(uid=uid, digest=digest(otp.lower())))

    def _step(self, uid: int, row: dict[str, Any], otp: str) -> int | None:
        """The step whose digits these are, around now and after the last that was used; None if there is none."""
        if self.sealed is None:
            raise Problem(503, "this server cannot check second factors: it has no TOTP_KEY")
        secret, now = self.sealed.open(uid, row["secret"]), int(time.time()) // STEP
        steps = [now + apart for apart in AROUND if now + apart > row["step"]]
        return next((step for step in steps if hmac.compare_digest(code(secret, step).encode(), otp.encode())), None)
