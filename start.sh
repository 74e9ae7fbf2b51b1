#!/usr/bin/env bash
# Start the server in the background and wait until it is ready; if it runs already, say so.
# Environment: HOST, PORT, APP_CONFIG, APP_PID, APP_LOG, APP_DB (database name), WORKERS, THREADS (each worker's). HOST: a
# loopback address or 0.0.0.0; on another one it never gets ready, as plain HTTP from there is 403 (FSA_SECURE in app.conf).
set -euo pipefail
cd -P "$(dirname "$0")"
export APP_CONFIG=${APP_CONFIG:-$PWD/app.conf} APP_PID=${APP_PID:-app.pid}
[[ $APP_PID == /* ]] || APP_PID=$PWD/$APP_PID
host=${HOST:-127.0.0.1} port=${PORT:-5000} log=${APP_LOG:-app.log}
url=http://${host/*:*/[$host]}:$port
exec 9>>"$log"
! command -v flock >/dev/null || flock 9  # of two starters, one waits here (not on macOS)
if pid=$(./stop.sh pid); then
  echo "already running: process $pid"
  exit
fi
KEEP_DB=1 ./stop.sh  # a stale process id, workers that a killed main process left
# Granian listens with SO_REUSEPORT: two would share the port, unawares; one just killed keeps it for an instant after its name
for ((i = 0; i < 20; i++)); do (: <>"/dev/tcp/$host/$port") 2>/dev/null || break; sleep 0.1; done
if ((i == 20)); then
  echo "$url is in use" >&2
  exit 1
fi
before=$(wc -c <"$log")
set -m  # its own process group: Ctrl-C on what runs start.sh is not for the server
nohup venv/bin/python -P engine/embedded.py exec ${APP_DB:+-d "$APP_DB"} "$PWD/venv/bin/granian" "--pid-file=$APP_PID" \
  --interface wsgi --http 1 --no-ws --host "$host" --port "$port" --workers "${WORKERS:-2}" \
  --blocking-threads "${THREADS:-4}" --respawn-failed-workers --respawn-interval 1 --workers-kill-timeout 10 app:app \
  </dev/null >>"$log" 2>&1 9>&- &
pid=$! SECONDS=0
refused() { tail -c "+$((before + 1))" "$log" | grep -q "^refusing to start"; }  # workers that do are started again, in vain
echo "$pid" >"$APP_PID"
until curl -qsf --noproxy '*' -m 2 -o /dev/null "$url/ready"; do
  if ! kill -0 "$pid" 2>/dev/null || ((SECONDS >= 30)) || refused; then
    echo "not ready, see $log:" >&2
    tail -n 20 "$log" >&2
    KEEP_DB=1 ./stop.sh
    exit 1
  fi
  sleep 0.1
done
echo "ready: $url, process $pid"
