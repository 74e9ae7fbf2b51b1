"""One's own second factor: to begin, to confirm, to end it."""

from FlaskSimpleAuth import Blueprint

from engine.auth import auth
from engine.http.wire import Created, created, declare
from engine.types import Otp, Recoveries, TotpSecret

totp = Blueprint("totp", __name__)


# POST /totp: a secret
@totp.post("/totp", authorize="AUTH", auth="basic")
@declare(stored=False, located=False)
def post_totp() -> Created[TotpSecret]:
    """Make the secret of a second factor (RFC 6238).

    It is not in force before it is confirmed.

    409: one is in force already, or the server keeps none.
    """
    return created(auth.begin_totp())


# POST /totp/confirm: put it in force
@totp.post("/totp/confirm", authorize="AUTH", auth="basic")
@declare(stored=False, located=False)
def post_totp_confirm(otp: Otp) -> Created[Recoveries]:
    """Put the second factor in force by its digits.

    The recovery texts are shown this once.
    """
    return created(auth.confirm_totp(otp))


# DELETE /totp: out of force
@totp.delete("/totp", authorize="AUTH", auth="basic")
def delete_totp(otp: Otp) -> None:
    """Take the second factor out of force.

    It takes the digits of X-OTP once more, or a recovery text.
    """
    auth.end_totp(otp)
