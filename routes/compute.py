"""Computations without data: parameters in, a value out."""

from FlaskSimpleAuth import Blueprint

from engine.auth import auth
from engine.types import Integer, Password
from model import Sum

compute = Blueprint("compute", __name__)


# GET /cmp/add: sum
@compute.get("/cmp/add", authorize="AUTH")
def get_cmp_add(i: Integer, j: Integer) -> Sum:
    """Add two integers."""
    return i + j


# GET /cmp/hash: hash a password
@compute.get("/cmp/hash", authorize="AUTH")
def get_cmp_hash(apass: Password) -> str:
    """Hash a password with bcrypt."""
    return auth.hash_password(apass, "apass")
