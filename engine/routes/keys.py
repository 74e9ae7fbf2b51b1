"""One's own keys, with which programs call."""

from FlaskSimpleAuth import Blueprint

from engine.auth import auth
from engine.http.wire import Created, changed, created, declare, page
from engine.types import ApiKey, Cursor, Days, Key, Limit, NewKey, Scopes, Text

keys = Blueprint("keys", __name__)


# GET /keys: one's own
@keys.get("/keys", authorize="AUTH")
@declare(account=True)
def get_keys(limit: Limit = Limit(100), after: Cursor = Cursor()) -> list[ApiKey]:
    """List one's own keys, without the keys themselves."""
    return page(auth.list_keys(after, limit))


# POST /keys: a new one
@keys.post("/keys", authorize="AUTH")
@declare(account=True, stored=False)
def post_keys(note: Text, scopes: Scopes, days: Days = Days(90)) -> Created[NewKey]:
    """Make a key, which is shown this once."""
    made = auth.add_key(note, scopes, days)
    return created(made, f"/keys/{made['kid']}")


# DELETE /keys/<kid>: remove
@keys.delete("/keys/<kid>", authorize="AUTH")
@declare(account=True)
def delete_keys_kid(kid: Key) -> None:
    """Remove one of one's own keys: it is dead at once."""
    return changed(auth.del_key(kid))
