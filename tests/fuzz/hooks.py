"""What schemathesis cannot know: texts that only a human or the server can make, and whose objects are whose. Loaded by it."""

import re
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("cursor", st.just(""))  # the first page; others come from a Link alone
schemathesis.openapi.format("password", st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=10, max_size=72))


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """The caller is user 1: it owns its objects alone, and is not to lock itself out."""
    path = context.operation.path
    if path_parameters and path.startswith("/owned/") and path_parameters.get("uid") not in (1, 2):
        path_parameters["uid"] = 1
    if path_parameters and path.startswith("/users/") and path_parameters.get("uid") == 1:
        path_parameters["uid"] = 3
    return path_parameters


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """A good key is a new one: an answer that is given again may tell of what was removed meanwhile."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and re.fullmatch(r"[ -~]{1,64}", key.strip()):
        case.headers["Idempotency-Key"] = key.strip()[:27] + "-" + str(uuid.uuid4())
