"""Read and write through an API until the standard input ends; then tell, as JSON, what was sent, lost and seen.

Usage: traffic.py URL; REQUESTS_CA_BUNDLE names the authority of its certificate. Names begin with LOAD; every write that was
answered 201 and not deleted again is counted in `kept`, for the caller to compare with the table.
"""

import json
import random
import sys
import threading
import time

import requests

URL = sys.argv[1]
THREADS = 6
PAUSE = 0.01  # seconds between two requests of a thread

over = threading.Event()
lock = threading.Lock()
seen = {"sent": 0, "kept": 0}
versions: set[str] = set()
failures: list[str] = []


def work(number: int) -> None:
    # some clients keep their connection, others make one for each request
    session = requests.Session() if number % 2 else requests

    def ask(method: str, path: str, status: int, **more: object) -> requests.Response | None:
        time.sleep(PAUSE)
        with lock:
            seen["sent"] += 1
        try:
            response = session.request(method, URL + path, timeout=60, **more)  # type: ignore[arg-type]
            why = "" if response.status_code == status else f"{response.status_code} {response.text[:200]}"
            if status != 204 and not why:
                response.json()
        except (requests.RequestException, ValueError) as error:
            response, why = None, repr(error)
        if why:
            with lock:
                failures.append(f"{time.strftime('%X')} {method} {path}: {why}")
            return None
        return response

    for turn in range(1_000_000):
        if over.is_set():
            return
        if version := ask("GET", "/version", 200):
            with lock:
                versions.add(version.json()["version"])
        ask("GET", "/stuff", 200, params={"limit": 50})
        if new := ask("POST", "/stuff", 201, data={"stuff": f"LOAD {number} {turn} {random.random()}"}):  # noqa: S311
            path = f"/stuff/{new.json()['sid']}"
            ask("GET", path, 200)
            gone = turn % 2 and ask("DELETE", path, 204)
            with lock:
                seen["kept"] += not gone


threads = [threading.Thread(target=work, args=[number]) for number in range(THREADS)]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
print(json.dumps({**seen, "lost": len(failures), "versions": sorted(versions), "failures": failures[:10]}))
