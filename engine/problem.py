"""Refusals: an answer that ends the request, and the catalogue of codes (docs/errors.md). Statuses are those of RFC 9110."""

# status: (code for programs, message when nothing better is known)
CODES = {
    400: ("invalid_request", "bad request"),
    401: ("unauthenticated", "missing or bad credentials"),
    403: ("forbidden", "permission denied"),
    404: ("not_found", "object not found"),
    405: ("method_not_allowed", "method not allowed"),
    406: ("not_acceptable", "this resource is not available as what Accept asks for"),
    408: ("request_too_slow", "the request came too slowly"),
    409: ("conflict", "conflict with the current state"),
    410: ("gone", "the resource is no more"),
    411: ("length_required", "a form or a table must come with its Content-Length"),
    412: ("precondition_failed", "the resource has changed since"),
    413: ("body_too_large", "the request body is too large"),
    414: ("uri_too_long", "the request target is too long"),
    415: ("unsupported_media_type", "the request body must be JSON or a form"),
    422: ("idempotency_key_reused", "this Idempotency-Key came with another request"),
    428: ("precondition_required", "If-Match is required"),
    429: ("too_many_attempts", "too many attempts, try again later"),
    431: ("headers_too_large", "the request headers are too large"),
    500: ("internal_error", "internal error"),
    503: ("unavailable", "service unavailable, try again later"),
    504: ("timeout", "the request took too long and was ended"),
}
# code: (status, what it means); those that tell more than their status
SPECIFIC = {
    "invalid_parameter": (400, "a parameter is missing, unknown, ill-typed or out of bounds: `errors` names each"),
    "invalid_idempotency_key": (400, "an Idempotency-Key has 1 to 64 printable ASCII characters"),
    "invalid_consistency_token": (400, "a Consistency-Token is sent back as the answer to a write said it"),
    "password_too_short": (400, "password too short!"),
    "password_too_long": (400, "a password has at most 72 bytes"),
    "password_too_common": (400, "the password is one that many have"),
    "wrong_password": (400, "the old password is not right"),
    "otp_required": (
        401,
        "the password is right, a second factor is in force: its digits, in X-OTP or as `otp` at POST /login",
    ),
    "invalid_otp": (401, "the digits are not right, or were used already"),
    "wrong_otp": (400, "the digits are not those of a secret that waits for them, or is in force"),
    "totp_in_force": (409, "a second factor is in force already"),
    "totp_unavailable": (409, "the server is not configured to keep second factors (TOTP_KEY)"),
    "invalid_refresh": (401, "a refresh text is good once and 30 days; one that comes again ends its session"),
    "insecure_transport": (403, "plain HTTP is for this machine alone, from another one it takes HTTPS"),
    "scope_missing": (403, "the key lacks the scope that the message names"),
    "key_not_allowed": (403, "a key may do nothing to its own account: use the password, or a token"),
    "cross_site": (403, "a page of another site may not do this, unless its origin is in CORS_ORIGINS"),
    "last_administrator": (409, "this is the last administrator"),
    "duplicate": (409, "what must be unique is taken already: `errors` names it"),
    "still_referenced": (409, "other objects refer to this one"),
    "still_running": (409, "a request with this Idempotency-Key is still running"),
    "hashing_busy": (503, "too many passwords are being checked at once, try again later"),
    "schema_outdated": (503, "the database waits for a migration"),
    "outcome_unknown": (503, "the connection was lost during a commit: read before repeating, or use an Idempotency-Key"),
}


class Problem(BaseException):
    """An answer that ends the request, raised from below the routes.

    :param status: HTTP status code.
    :param message: text for the client; never a driver's.
    :param code: stable identifier, the status's own by default.
    :param field: parameter at fault, if one is.
    :param headers: more headers of the answer.
    :param retry: the transaction is undone for sure, running the request again may succeed.

    NOTE not an Exception: FlaskSimpleAuth's catch-alls let it through to `wire.Flask.dispatch_request`.
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        code: str | None = None,
        field: str | None = None,
        retry: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status, self.field, self.retry, self.headers = status, field, retry, headers or {}
        self.code, self.message = code or CODES[status][0], message or CODES[status][1]
