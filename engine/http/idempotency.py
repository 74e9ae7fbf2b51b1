"""Idempotency-Key: a POST that is repeated under its key is done once, and gets its first answer again. Imported by app.

The answer is stored in the transaction of the write itself: both are kept, or neither. What was refused is not stored, as
nothing was done: its repeat is tried anew. The table holds neither keys nor requests, only digests; that of a request needs the
key and the token secret to be checked, so that it does not help to guess a password that was in a request. With another
secret a repeat is 422, and still not done twice.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from engine.db.reference import db
from engine.http.request import here
from engine.http.response import Response
from engine.http.wire import given
from engine.problem import Problem

KEY = re.compile(r"[ -~]{1,64}")  # blake2b takes 64 bytes of key
KEPT = {"Content-Type", "Location", "ETag", "Link"}


def _digest(key: str, *parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), key=key.encode(), digest_size=16).hexdigest()


class Once:
    """A view that looks first whether this request was answered before; by then it is known to be allowed and well-formed.

    NOTE an object, since FlaskSimpleAuth looks at the code of a view, which a wrapping function would hide.
    """

    def __init__(self, view: Callable[..., Any]) -> None:
        update_wrapper(self, view)
        self.view, self.__code__ = view, view.__code__

    def __call__(self, **parameters: Any) -> Any:
        request = here()
        key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
        if key is None or request.method != "POST":
            return self.view(**parameters)
        name, answer = recall(key)
        if answer is None:
            answer = request.app.make_response(self.view(**parameters))
            keep(name, answer)
        return answer


def recall(key: str) -> tuple[str, Response | None]:
    """The name under which the answer to this request is kept, and the answer if it was given before."""
    request = here()
    if not KEY.fullmatch(key):
        raise Problem(400, "Idempotency-Key must have 1 to 64 printable ASCII characters", "invalid_idempotency_key")
    user = request.app.current_user()
    name = _digest(key, user, request.script_root, str(request.url_rule))
    sent = _digest(key, request.path, given()).encode()
    fingerprint = hmac.digest(request.app.config["FSA_TOKEN_SECRET"].encode(), b"idempotency:" + sent, "sha256").hex()
    db.del_answer_old(key=name)
    known = db.claim_answer(key=name, fingerprint=fingerprint)
    if not known:
        raise Problem(409, "a request with this Idempotency-Key is still running", "still_running")
    if known["fingerprint"] != fingerprint:
        raise Problem(422)
    if known["status"] is None:
        return name, None
    headers = {**json.loads(known["headers"]), "Idempotency-Replayed": "true"}
    return name, Response(known["body"], known["status"], headers)


def keep(key: str, response: Response) -> None:
    """Store the answer in the transaction of what the request did."""
    if response.status_code < 400:
        headers = json.dumps({name: value for name, value in response.headers.items() if name in KEPT})
        db.set_answer(key=key, status=response.status_code, headers=headers, body="\\x" + response.get_data().hex())


def init_app(app: Any) -> None:
    """Look before each POST whose answer may be stored."""
    app.watch_routes(_register)


def _register(register: Callable[..., Any]) -> Callable[..., Any]:
    def add_url_rule(rule: str, endpoint: Any = None, view_func: Any = None, **options: Any) -> Any:
        if "POST" in (options.get("methods") or ()) and getattr(view_func, "declared", {}).get("stored", True):
            view_func = Once(view_func)
        return register(rule, endpoint=endpoint, view_func=view_func, **options)

    return add_url_rule
