"""The WSGI entry point of a deployed release, for mod_wsgi and for any other server.

It reads the account's environment file (a server's configuration is no place for a secret), binds this process to its release,
and tells in run/PID.ready or run/PID.failed how that went, for deploy/remote. Paths are those of deploy/provision:
BASE/releases/ID/deploy/wsgi.py, BASE/conf/env, BASE/run.
"""

import os
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of this release, wherever BASE/current leads later
BASE = ROOT.parent.parent
APACHE = "mod_wsgi" in sys.modules


def mark(what: str, why: str = "") -> None:
    if APACHE:
        BASE.joinpath("run", f"{os.getpid()}.{what}").write_text(f"{ROOT.name}\n{why}")


for line in BASE.joinpath("conf", "env").read_text().splitlines():
    name, equals, value = line.partition("=")
    if equals and not line.startswith("#"):
        os.environ[name] = value
os.environ["APP_BUILD"] = f"+{ROOT.name}"  # of the version, in SemVer's words
# Apache finds Python in BASE/current/venv, which leads elsewhere after the next deployment: what is imported late must be ours
sys.path[:] = [str(ROOT), *(os.path.realpath(path) for path in sys.path)]
os.chdir(ROOT)
try:
    from app import app as application

    if APACHE:
        application.test_client().get("/ready")  # connects, and does what is done once, before anybody waits for it
except BaseException:
    if not APACHE:
        raise
    # a process that stayed would answer its share of the requests with 500; Apache starts another one
    traceback.print_exc()
    sys.stderr.flush()
    mark("failed", traceback.format_exc())
    time.sleep(1)
    os._exit(1)
mark("ready")
