"""What schemathesis cannot know: texts that only a human or the server can make, and whose objects are whose. Loaded by it."""

import re
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("cursor", st.just(""))  # the first page; others come from a Link alone
schemathesis.openapi.format("csv", st.text("abcdefghijklmnopqrstuvwxyz", min_size=1).map("stuff\r\n{}\r\n".format))
schemathesis.openapi.format("password", st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=10, max_size=72))
schemathesis.openapi.format("scope", st.sampled_from(["*", "owned:read", "owned:write", "stuff:read", "users:write"]))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """The caller is user 1: it owns its objects alone, and is not to lock itself out. What is to be refused stays as it is.

    A good key is a new one: an answer that is given again may tell of what was removed meanwhile.
    """
    path, keys = case.operation.path, case.path_parameters or {}
    if path.startswith("/users/") and str(keys.get("uid")) == "1":
        keys["uid"] = 3
    fit = case.meta is None or case.meta.generation.mode.is_positive
    if fit and path.startswith("/owned/") and keys.get("uid") not in (1, 2):
        keys["uid"] = 1
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and re.fullmatch(r"[ -~]{1,64}", key.strip()):
        case.headers["Idempotency-Key"] = key.strip()[:27] + "-" + str(uuid.uuid4())
