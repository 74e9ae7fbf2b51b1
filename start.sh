#!/usr/bin/env bash
# Start the server in the background and wait until it is ready; if it runs already, say so. With the argument "again", stop it
# first; the new one serves where the old one did, unless HOST or PORT is given.
# Environment: HOST, PORT, APP_CONFIG, APP_PID, APP_LOG, APP_DB (database name), WORKERS, THREADS (each worker's). HOST: a
# loopback address or 0.0.0.0; on another one it never gets ready, as plain HTTP from there is 403 (FSA_SECURE in app.conf).
set -euo pipefail
cd -P "$(dirname "$0")"
export APP_CONFIG=${APP_CONFIG:-$PWD/app.conf} APP_PID=${APP_PID:-app.pid}
[[ $APP_PID == /* ]] || APP_PID=$PWD/$APP_PID
if [ "${1:-}" = keep ]; then  # run the server; once it was ready (USR1), run it again when it ends otherwise than asked to
  shift
  pause=1 ready=0
  trap 'ready=1' USR1
  while :; do
    "$@" &
    pid=$! began=$SECONDS
    echo "$pid" >"$APP_PID"
    while rc=0; wait "$pid" || rc=$?; kill -0 "$pid" 2>/dev/null; do :; done  # the signal ends a wait
    ((rc && ready)) || exit "$rc"
    ((SECONDS - began < 60)) || pause=1
    echo "the server ended with status $rc, again in $pause s" >&2
    sleep "$pause"
    for left in $(./stop.sh ours); do [ "$left" = $$ ] || kill -KILL "$left" || true; done  # workers without their main process
    pause=$((pause < 32 ? 2 * pause : 60))
  done
fi
log=${APP_LOG:-app.log}
(umask 077; : >>"$log")  # it names who did what
[ ! -f "$log" ] || [ ! -O "$log" ] || chmod 600 "$log"
exec 9>>"$log"
! command -v flock >/dev/null || flock 9  # of two starters, one waits here (not on macOS)
# where the process serves: the arguments below, after the names
served() {
  if [ -d /proc/self ]; then tr '\0' ' ' <"/proc/$pid/cmdline"; else ps -ww -o args= -p "$pid"; fi |
    sed -n 's/.* --host \([^ ]*\) --port \([0-9]*\) .*/\1 \2/p'
}
url() { echo "http://${1/*:*/[$1]}:$2"; }
host=127.0.0.1 port=5000
if pid=$(./stop.sh pid); then
  read -r host port < <(served; echo)
  if [ "${1:-}" != again ]; then
    running="already running: $(url "$host" "$port"), process $pid" asked="HOST=${HOST:-$host} PORT=${PORT:-$port}"
    if [ "$asked" != "HOST=$host PORT=$port" ]; then
      printf '%s\n' "$running" "there instead: make restart $asked" \
        "a second one: make run $asked APP_PID=second.pid APP_LOG=second.log" >&2
      exit 1
    fi
    echo "$running"
    exit
  fi
fi
host=${HOST:-$host} port=${PORT:-$port}
url=$(url "$host" "$port")
KEEP_DB=1 ./stop.sh >/dev/null  # with "again" the server; else workers that a killed main process left, a stale process id
# Granian listens with SO_REUSEPORT: two would share the port, unawares; one just killed keeps it for an instant after its name
for ((i = 0; i < 20; i++)); do (: <>"/dev/tcp/$host/$port") 2>/dev/null || break; sleep 0.1; done
if ((i == 20)); then
  echo "$url is in use" >&2
  exit 1
fi
before=$(wc -c <"$log")
# each connection is a descriptor; the system's default for them is low, what a process may ask for is not
ulimit -Sn "$(ulimit -Hn)" 2>/dev/null || true
files=$(ulimit -Sn)
[[ $files != unlimited && $files -lt 16384 ]] || files=16384
set -m  # its own process group: Ctrl-C on what runs start.sh is not for the server
nohup ./start.sh keep venv/bin/python -P engine/embedded.py exec ${APP_DB:+-d "$APP_DB"} "$PWD/venv/bin/python" -m granian "--pid-file=$APP_PID" \
  --interface wsgi --http 1 --no-ws --host "$host" --port "$port" --workers "${WORKERS:-2}" \
  --blocking-threads "${THREADS:-4}" --backpressure "$((files / 2))" --respawn-failed-workers --respawn-interval 1 --workers-kill-timeout 10 app:app \
  </dev/null >>"$log" 2>&1 9>&- &
keeper=$! SECONDS=0
refused() { tail -c "+$((before + 1))" "$log" | grep -q "^refusing to start"; }  # workers that do are started again, in vain
until curl -qsf --noproxy '*' -m 2 -o /dev/null "$url/ready"; do
  if ! kill -0 "$keeper" 2>/dev/null || ((SECONDS >= 30)) || refused; then
    echo "not ready, see $log:" >&2
    tail -n 20 "$log" >&2
    KEEP_DB=1 ./stop.sh >/dev/null
    exit 1
  fi
  sleep 0.1
done
kill -USR1 "$keeper"
echo "ready: $url, process $(<"$APP_PID")"
