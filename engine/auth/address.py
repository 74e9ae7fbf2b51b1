"""The address that attempts are counted by."""

import ipaddress
from contextlib import suppress
from urllib.parse import urlsplit

from flask import request

# IPv4 addresses as IPv6 ones: mapped (RFC 4291 2.5.5.2) and behind NAT64 (RFC 6052); the last 32 bits are the address
EMBEDDED = [ipaddress.IPv6Network(net) for net in ("::ffff:0:0/96", "64:ff9b::/96")]


def address() -> str:
    """Where the request comes from: an IPv4 address, or the /64 of an IPv6 one, which its holder changes at will."""
    peer = request.environ.get("werkzeug.proxy_fix.orig", {}).get("REMOTE_ADDR")  # if the proxy names nobody: itself
    found = _parsed(request.remote_addr) or _parsed(peer) or ipaddress.ip_address("::")
    if any(found in net for net in EMBEDDED):
        found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return str(found if found.version == 4 else ipaddress.ip_network((found, 64), strict=False))


def _parsed(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, which some proxies name with its port; None for `unknown` and the like."""
    with suppress(ValueError):
        return ipaddress.ip_address(text or "")
    with suppress(ValueError):
        return ipaddress.ip_address(urlsplit(f"//{text}").hostname or "")
    return None
