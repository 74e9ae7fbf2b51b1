"""Whom the server believes about where a request comes from: as many proxies as TRUSTED_PROXIES says, and nobody else."""

from pathlib import Path
from typing import Any

import pytest
from inside import answers, environment

pytestmark = pytest.mark.internal  # starts processes of its own

ASK = """
import json, sys
from app import app

@app.get("/where", authz="OPEN")
def where():
    from flask import request
    return {"address": request.remote_addr, "secure": request.is_secure, "host": request.host, "root": request.script_root}

client = app.test_client()
for address, headers in json.load(sys.stdin):
    answer = client.get("/where", headers=headers, environ_overrides={"REMOTE_ADDR": address})
    print(json.dumps(answer.json | {"status": answer.status_code}))
"""
FAR, PROXY = "203.0.113.7", "10.0.0.1"


def ask(folder: Path, proxies: int, *requests: tuple[str, dict[str, str]]) -> list[Any]:
    """What a server with so many proxies makes of requests, each a peer's address and headers."""
    return answers(ASK, requests, environment(folder, TRUSTED_PROXIES=proxies, FSA_TOKEN_SECRET="not used here"))


def forwarded(address: str, scheme: str, **more: str) -> dict[str, str]:
    return {"X-Forwarded-For": address, "X-Forwarded-Proto": scheme} | more


def test_without_a_proxy_nobody_is_believed(tmp_path: Path) -> None:
    plain, forged, local = ask(
        tmp_path, 0, (FAR, {}), (FAR, forwarded("127.0.0.1", "https")), ("127.0.0.1", forwarded(FAR, "https"))
    )
    assert (plain["status"], forged["status"]) == (403, 403)  # plain HTTP, from another machine
    assert (local["status"], local["address"], local["secure"]) == (200, "127.0.0.1", False)


def test_one_proxy_is_believed_about_its_own_client_only(tmp_path: Path) -> None:
    good, plain, address, scheme, host = ask(
        tmp_path,
        1,
        (PROXY, forwarded(FAR, "https")),
        (PROXY, forwarded(FAR, "http")),
        (PROXY, forwarded(f"127.0.0.1, {FAR}", "http")),  # the client wrote the first one
        (PROXY, forwarded(FAR, "https, http")),
        (PROXY, forwarded(FAR, "https") | {"X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil"}),
    )
    assert (good["status"], good["address"], good["secure"]) == (200, FAR, True)
    assert (plain["status"], address["status"], scheme["status"]) == (403, 403, 403)
    assert (host["status"], host["host"], host["root"]) == (200, "localhost", "")


def test_two_proxies_are_counted(tmp_path: Path) -> None:
    good, forged = ask(
        tmp_path,
        2,
        (PROXY, forwarded(f"{FAR}, 10.0.0.2", "https, http")),
        (PROXY, forwarded(f"127.0.0.1, {FAR}, 10.0.0.2", "https, https, http")),
    )
    assert (good["status"], good["address"], good["secure"]) == (200, FAR, True)
    assert (forged["status"], forged["address"]) == (200, FAR)
