"""One's own account: to register, to log in and out, to change the password, and to ask who one is."""

from FlaskSimpleAuth import Blueprint, CurrentUser

from database import db
from engine.auth import auth
from engine.http.wire import Created, created, declare
from engine.types import Boolean, LogIn, Login, Otp, Password, Secret

account = Blueprint("account", __name__)


# POST /register: a new user
@account.post("/register", authorize="OPEN")
def post_register(login: Login, pword: Password) -> Created[None]:
    """Register as a new user, who is no administrator.

    409: the login is already taken.
    """
    uid = db.add_register(login=login, pword=auth.hash_password(pword, login=login))
    return created(None, f"/users/{uid}")


# GET /login: a token
@account.get("/login", authorize="AUTH", auth="basic")
def get_login() -> str:
    """Get a token for login and password sent as Basic authentication."""
    return auth.token()


# POST /login: a token
@account.post("/login", authorize="AUTH", auth="form")
@declare(stored=False, located=False)
def post_login(login: Login, pword: Secret, refresh: Boolean | None = None, otp: Otp | None = None) -> Created[str | LogIn]:
    """Get a token for login and password sent as parameters.

    With `refresh` the answer is an object with what renews the session; else the token alone.
    """
    return created(auth.log_in(True) if refresh else auth.token())  # the scheme `form` reads login, password and otp


# DELETE /login: log out, everywhere
@account.delete("/login", authorize="AUTH")
@declare(account=True)
def delete_login(user: CurrentUser) -> None:
    """Log out: every token issued to this user so far is dead."""
    auth.revoke(user)


# GET /whoami: one's login
@account.get("/whoami", authorize="AUTH")
def get_whoami(user: CurrentUser) -> str:
    """Tell who is asking."""
    return user


# GET /qui-suis-je: one's login, by token
@account.get("/qui-suis-je", authorize="AUTH", auth="token")
def get_qui_suis_je(user: CurrentUser) -> str:
    """Tell who is asking with a token."""
    return user


# POST /password: change it
@account.post("/password", authorize="AUTH", auth="basic")
def post_password(user: CurrentUser, old: Password, new: Password) -> None:
    """Change one's password: the new one holds at once, all tokens are dead."""
    auth.check_password(user, old, "old")
    db.set_password(login=user, pword=auth.hash_password(new, "new", user))


# GET /hello: greet a user
@account.get("/hello", authorize="AUTH")
def get_hello(user: CurrentUser) -> str:
    """Say hello."""
    return f"hello {user}!"


# GET /admin: greet an administrator
@account.get("/admin", authorize="ADMIN")
def get_admin(user: CurrentUser) -> str:
    """Say hello to an administrator."""
    return f"hello admin {user}!"
