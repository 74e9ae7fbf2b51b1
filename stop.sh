#!/usr/bin/env bash
# Stop the server of this clone and APP_PID, nobody else's, then the embedded database unless KEEP_DB is set.
# With the argument "pid", only print its process id, or fail if it does not run; with "ours" those of all its processes.
set -euo pipefail
cd -P "$(dirname "$0")"
file=${APP_PID:-app.pid}
[[ $file == /* ]] || file=$PWD/$file
# ours are those that carry this very argument, whoever has the number in the file by now
ours() {
  if [ -d /proc/self ]; then
    grep -lazxsFe"--pid-file=$file" /proc/[0-9]*/cmdline
  else
    pgrep -f -- "--pid-file=$file"
  fi | sed "s/[^0-9]//g" || true  # grep fails on processes that end meanwhile
}
main() { ours | grep -xF "$(cat "$file" 2>/dev/null)"; }
if [ "${1:-}" = pid ]; then
  main
  exit
elif [ "${1:-}" = ours ]; then
  ours
  exit
fi
if pid=$(main); then
  kill "$pid"
  said="stopped: process $pid"
  for ((i = 0; i < 150; i++)); do main >/dev/null || break; sleep 0.1; done
fi
# what resisted, and workers that a killed main process left: they keep the port until they are gone
for ((i = 0; i < 50; i++)); do
  left=$(ours)
  [ -n "$left" ] || break
  kill -KILL $left 2>/dev/null || sleep 0.1
done
rm -f "$file"
echo "${said:-no server of $file runs}"
if [ -z "${KEEP_DB:-}" ] && [ -x venv/bin/python ]; then venv/bin/python -P engine/embedded.py stop; fi
