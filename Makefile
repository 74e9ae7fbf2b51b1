# One command each: `make run` serves, `make check` proves. The scripts and settings that they use are plain files.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
# the next line also stops -j: two targets must not install or use the test database at once
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= python3
# where to serve; start.sh has the defaults, as `make restart` keeps what is not given
export HOST PORT
export APP_LOG ?= app.log
export APP_CONFIG ?= $(CURDIR)/app.conf

WITH_DB = venv/bin/python -P engine/embedded.py exec
# the lock is complete and names every version: nothing is resolved, so what is released tomorrow changes nothing
PIP = venv/bin/python -m pip --disable-pip-version-check
INSTALL = $(PIP) install --quiet --no-deps --require-hashes
# the commands of packages run as modules: their scripts name the folder in which they were installed, and a clone may be moved
FLASK = venv/bin/python -m flask --app app
# the tests: their own configuration and database, cheap passwords, commits that do not wait for the disk
TEST = APP_CONFIG=tests/app.conf BCRYPT_COST=4 PGOPTIONS="-c synchronous_commit=off"

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z.]*\):.*## /\1 /p' Makefile | while read -r name text; do printf '%-18s%s\n' "$$name" "$$text"; done

##
## the virtual environment: what serves, then what checks
##

venv/.run: requirements.txt
	@[ -x venv/bin/python ] || $(PYTHON) -m venv venv
	echo "installing the $$(grep -c == $<) packages of $< in venv/ (once, some 20 seconds)"
	$(INSTALL) -r $<
	$(PIP) check --quiet
	touch $@

venv/.dev: requirements-dev.txt venv/.run
	@echo "installing the $$(grep -c == $<) packages of $< in venv/ (once, some 20 seconds)"
	$(INSTALL) -r $<
	$(PIP) check --quiet
	touch $@

.PHONY: venv
venv: venv/.run venv/.dev ## make the virtual environment, from the lock

venv/.redis: requirements-redis.txt venv/.run
	@$(INSTALL) -r $<
	touch $@

.PHONY: venv.redis
venv.redis: venv/.redis ## add the client of Redis, for where REDIS_URL is set

venv/.console: tests/console/requirements.txt venv/.dev
	@$(INSTALL) -r $<
	touch $@

.PHONY: lock
lock: venv/.dev ## pin the latest versions that pyproject.toml allows, with hashes
	@venv/bin/uv pip compile --quiet --upgrade pyproject.toml -o requirements.txt
	venv/bin/uv pip compile --quiet --upgrade --group redis -c requirements.txt -o requirements-redis.txt
	venv/bin/uv pip compile --quiet --upgrade pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

.PHONY: advisories
advisories: venv/.dev ## tell which known faults the locked versions have, by FILE, advisories in the OSV format (docs/lock.md)
	@venv/bin/python tests/ops/advisories.py $(FILE)

##
## the server
##

.PHONY: run
run: venv/.run ## start the server in the background, on HOST (127.0.0.1) and PORT (5000)
	@said=$$(./start.sh)
	echo "$$said"
	url=$$(grep -o 'http://[^,]*' <<<"$$said")
	printf '%s\n' "try: curl $$url/stuff" "     curl -u calvin:hobbes $$url/users" "     $$url/docs in a browser"

.PHONY: dev
dev: venv/.run ## serve in the foreground with Flask's debugger, reloading at each change
	@exec $(WITH_DB) $(FLASK) run --debug --extra-files "$(CURDIR)/queries.sql:$(APP_CONFIG)" --host $(or $(HOST),127.0.0.1) --port $(or $(PORT),5000)

.PHONY: stop
stop: ## stop the server and the embedded database
	@./stop.sh

.PHONY: restart
restart: venv/.run ## start the server anew where it was, or on another HOST and PORT; the database goes on
	@./start.sh again

.PHONY: log
log: ## follow the server's log
	@tail -n 50 -F $(APP_LOG)

.PHONY: psql
psql: venv/.run ## open the database
	@exec $(WITH_DB) psql

.PHONY: doctor
doctor: venv/.run ## say what was looked at in the configuration, and what would stop a deployment with it
	@$(WITH_DB) $(FLASK) doctor

.PHONY: admin
admin: venv/.run ## make an administrator, LOGIN=...; the password is asked for twice, or read from the standard input
	@$(WITH_DB) $(FLASK) admin $(LOGIN)

.PHONY: audit.verify
audit.verify: venv/.run ## walk the chain of the audit trail, compare it with the anchors in a file (ANCHORS=app.log)
	@$(WITH_DB) $(FLASK) audit-verify $(ANCHORS:%=--anchors %)

.PHONY: db.reset
db.reset: venv/.run ## empty the database, or APP_DB, and load the demonstration data again (asks; CONFIRM=yes does not)
	@answer=$(CONFIRM)
	[ "$$answer" ] || read -rp "All data of the database $(APP_DB) will be lost. Type yes to go on: " answer
	[ "$$answer" = yes ] || { echo "nothing done"; exit 1; }
	venv/bin/python -P engine/embedded.py reset $(if $(APP_DB),-d $(APP_DB))

.PHONY: db.remove
db.remove: venv/.run ## stop the embedded database and remove it, the other data of the clone stay (asks; CONFIRM=yes does not)
	@answer=$(CONFIRM)
	[ "$$answer" ] || read -rp "All data of the embedded database will be lost. Type yes to go on: " answer
	[ "$$answer" = yes ] || { echo "nothing done"; exit 1; }
	venv/bin/python -P engine/embedded.py remove

.PHONY: demo
demo: venv/.run ## load more data to look at in /console; refused where LOCAL is not set
	@LOCAL='import flask; conf = flask.Config("."); conf.from_envvar("APP_CONFIG"); raise SystemExit(not conf.get("LOCAL"))'
	venv/bin/python -c "$$LOCAL" || { echo "refused: $$APP_CONFIG is no local instance's (LOCAL = True)" >&2; exit 1; }
	$(WITH_DB) psql -qX -v ON_ERROR_STOP=1 -f demo.sql

.PHONY: routes
routes: venv/.run ## print the table of routes
	@$(FLASK) api

.PHONY: docs
docs: venv/.run ## write docs/api.md, docs/errors.md and docs/settings.md anew
	@$(FLASK) docs

# the version of swagger-ui-dist
VIEWER = 5.35.0
.PHONY: viewer
viewer: ## fetch the viewer of /docs, in version VIEWER, checked against engine/openapi/viewer/VERSION unless that is another one (needs npm)
	@new=$$(mktemp -d)
	trap 'rm -rf "$$new"' EXIT
	npm pack --silent --pack-destination "$$new" swagger-ui-dist@$(VIEWER) >/dev/null
	hash=$$(sha512sum "$$new"/*.tgz | cut -d' ' -f1)
	if grep -q "^swagger-ui-dist $(VIEWER) " engine/openapi/viewer/VERSION; then grep -q " $$hash$$" engine/openapi/viewer/VERSION; fi
	tar -xzf "$$new"/*.tgz -C "$$new"
	cd "$$new/package"
	cp swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css LICENSE NOTICE "$$OLDPWD/engine/openapi/viewer/"
	cp favicon-32x32.png "$$OLDPWD/engine/openapi/viewer/favicon.png"
	echo "swagger-ui-dist $(VIEWER) sha512 $$hash" >"$$OLDPWD/engine/openapi/viewer/VERSION"

##
## deployment: ENV names a file of deploy/environments, see docs/deploy.md
##

export ENV ?= staging

.PHONY: deploy
deploy: ## send this commit to the servers of ENV (staging), without a lost request
	@deploy/deploy install

.PHONY: rollback
rollback: ## go back to the release before
	@deploy/deploy rollback

.PHONY: status
status: ## what runs in ENV
	@deploy/deploy status

.PHONY: deploy.log
deploy.log: ## what was done in ENV, and what its server said last
	@deploy/deploy log

.PHONY: deploy.restart
deploy.restart: ## replace the server's processes, after a change of its environment file
	@deploy/deploy restart

.PHONY: deploy.admin
deploy.admin: ## make LOGIN an administrator; the password is asked, or read from the standard input
	@[ "$(LOGIN)" ] || { echo "whom? LOGIN=..." >&2; exit 2; }
	deploy/deploy admin $(LOGIN)

.PHONY: db.dump
db.dump: ## dump the database of ENV, there
	@deploy/deploy dump

.PHONY: db.restore
db.restore: ## replace the database of ENV by the dump FILE, there (asks; CONFIRM=yes does not)
	@[ "$(FILE)" ] || { echo "which dump? FILE=..." >&2; exit 2; }
	answer=$(CONFIRM)
	[ "$$answer" ] || read -rp "All data of $(ENV) will be replaced by $(FILE). Type yes to go on: " answer
	[ "$$answer" = yes ] || { echo "nothing done"; exit 1; }
	deploy/deploy restore $(FILE)

.PHONY: deploy.check
deploy.check: venv/.dev ## prove deployment on this machine (Debian, root): a few minutes, cleans up after itself
	@deploy/check

##
## the checks
##

.PHONY: lint
lint: venv/.dev ## look for faults and check the format
	@venv/bin/ruff check --quiet
	venv/bin/ruff format --check --quiet

.PHONY: format
format: venv/.dev ## mend what lint can, then tell what it cannot
	@venv/bin/ruff check --quiet --fix-only
	venv/bin/ruff format --quiet
	venv/bin/ruff check --quiet

.PHONY: types
types: venv/.dev ## check the types
	@venv/bin/python -m mypy

.PHONY: test
test: test.internal ## the same as test.internal

.PHONY: test.internal
test.internal: venv/.dev ## test in-process
	@$(TEST) FLASK_TESTER_APP=app:app $(WITH_DB) -d stuff_test venv/bin/python -m pytest $(PYTEST)

# a server for the target at hand, on the tests' database and a free port
define serve
export APP_DB=stuff_test APP_PID=.local/test.pid APP_LOG=.local/test.log KEEP_DB=1
mkdir -p .local
export HOST=127.0.0.1 PORT
# below the range from which the system takes ports for clients: none may come in between
PORT=$$(venv/bin/python - <<-EOF
	import random, socket
	print(next(p for p in random.sample(range(20000, 32000), 99) if socket.socket().connect_ex(("127.0.0.1", p))))
EOF
)
trap ./stop.sh EXIT  # whatever happens; a trap does not change the exit status
./start.sh
endef

.PHONY: test.external
test.external: venv/.dev ## the same tests, over HTTP, against a server started on a free port
	@export $(TEST)
	$(serve)
	FLASK_TESTER_APP=http://$$HOST:$$PORT $(WITH_DB) -d stuff_test venv/bin/python -m pytest $(PYTEST)

.PHONY: coverage
coverage: PYTEST += --cov
coverage: test.internal ## test in-process, every line and branch

# the same, for clients that try bad passwords by the thousand
FUZZ = APP_CONFIG=$$PWD/tests/fuzz.conf BCRYPT_COST=4

.PHONY: check.api
check.api: venv/.dev ## try every operation of the OpenAPI document, with all checks of schemathesis: some 1,500 requests
	@export $(FUZZ)
	venv/bin/python -P engine/embedded.py reset -d stuff_test >/dev/null
	$(serve)
	(cd tests/fuzz; PYTHONPATH=. ../../venv/bin/python -m schemathesis.cli run http://$$HOST:$$PORT/openapi.json --auth calvin:hobbes \
	  --checks all --max-examples 10 --warnings off --no-color $(SCHEMATHESIS))

.PHONY: check.clients
check.clients: venv/.dev ## linters of the document, clients generated from it and used, Postman, Chromium (needs npm, java, chromium; CLIENTS="redocly ibm": these alone)
	@export $(FUZZ)
	venv/bin/python -P engine/embedded.py reset -d stuff_test >/dev/null
	$(serve)
	venv/bin/python tests/clients/check.py http://$$HOST:$$PORT $(CLIENTS)

.PHONY: fuzz
fuzz: venv/.dev ## send 100,000 malformed requests over raw sockets (FUZZING="--number 1000 --seed 7": others)
	@export $(FUZZ)
	venv/bin/python -P engine/embedded.py reset -d stuff_test >/dev/null
	$(serve)
	$(WITH_DB) -d stuff_test venv/bin/python tests/fuzz/raw.py $$PORT $$APP_LOG $$APP_PID $(FUZZING)

CHECKS = lint types coverage test.external check.api

.PHONY: check
check: venv/.dev ## all that must pass, as continuous integration runs it: each part, whichever failed before
	@venv/bin/python -P engine/embedded.py status || trap 'venv/bin/python -P engine/embedded.py stop' EXIT
	passed=() failed=()
	for part in $(CHECKS); do
	  if $(MAKE) --no-print-directory $$part; then passed+=($$part); else failed+=($$part); fi
	done
	echo
	printf 'passed: %s\n' "$${passed[*]}"
	[ $${#failed[@]} = 0 ] || printf 'FAILED: %s\n' "$${failed[*]}"
	echo "parts: $${#passed[@]} passed, $${#failed[@]} failed"
	[ $${#failed[@]} = 0 ]

.PHONY: check.lock
check.lock: venv/.dev ## set-up installs the lock alone, whatever is released tomorrow, by Debian 12's pip and by the latest
	@venv/bin/python tests/ops/lock.py

.PHONY: check.console
check.console: venv/.console ## the console in Chromium: every page, by mouse, keyboard and phone (needs chromium)
	@export $(TEST)
	$(serve)
	FLASK_TESTER_APP=http://$$HOST:$$PORT $(WITH_DB) -d stuff_test venv/bin/pytest tests/console/browser.py $(PYTEST)

.PHONY: check.failover
check.failover: venv/.run ## three PostgreSQL nodes, the primary killed under load: no acknowledged write is lost
	@venv/bin/python tests/ops/failover.py

.PHONY: check.standbys
check.standbys: venv/.run ## reads on two standbys that lag, freeze and die: none is refused or older than it may be
	@venv/bin/python tests/ops/standbys.py

.PHONY: check.patroni
check.patroni: venv/.run ## the same under Patroni, through HAProxy and by a list of hosts: crash, switchover, losses (needs etcd-server haproxy patroni)
	@venv/bin/python tests/ops/patroni.py

.PHONY: check.pooler
check.pooler: venv/.run ## through pgbouncer in transaction pooling: every result is right (needs pgbouncer)
	@venv/bin/python tests/ops/pooler.py

.PHONY: check.monitoring
check.monitoring: venv/.run ## alert rules, and each graph of the dashboard, by a real Prometheus (needs prometheus)
	@venv/bin/python tests/ops/monitoring.py

.PHONY: check.overload
check.overload: venv/.run ## too many clients, half-sent requests, a slow search (in ROWS=2000000 rows): others are answered
	@venv/bin/python tests/ops/overload.py

.PHONY: check.redis
check.redis: venv/.redis ## Redis killed, failed over by its sentinels, frozen: guesses are throttled all the same (needs redis-server)
	@venv/bin/python tests/ops/sentinel.py

.PHONY: check.restore
check.restore: venv/.run ## back up, delete all, restore to the moment before
	@venv/bin/python tests/ops/restore.py

.PHONY: check.barman
check.barman: venv/.run ## the same by Barman, which receives the log by streaming (needs barman)
	@venv/bin/python tests/ops/barman.py

.PHONY: check.rolling
check.rolling: venv/.run ## two servers behind HAProxy restarted in turn under load: no request is lost (needs haproxy)
	@venv/bin/python tests/ops/rolling.py

.PHONY: check.proxies
check.proxies: venv/.dev ## cut, long and slow bodies through HAProxy and nginx by the files of deploy/ (needs haproxy nginx)
	@venv/bin/python tests/ops/proxies.py

.PHONY: check.hosts
check.hosts: venv/.run ## two hosts in networks of their own: one cut off, the database cut off, restarts (needs haproxy, root)
	@venv/bin/python tests/ops/hosts.py

.PHONY: soak
soak: venv/.run ## MINUTES (60) of low load in which workers, connections and the database are killed in turn
	@venv/bin/python tests/ops/soak.py $(or $(MINUTES),60)

##
## the figures
##

.PHONY: bench
bench: venv/.run ## measure throughput and growth, draw docs/performance-*.svg (some 10 minutes, SECONDS=2 each, MOST=1000000 rows)
	@venv/bin/python -P engine/embedded.py status || trap 'venv/bin/python -P engine/embedded.py stop' EXIT
	export APP_CONFIG=app.conf
	$(WITH_DB) -d stuff_load venv/bin/python bench/serve.py --seconds $(or $(SECONDS),2)
	$(WITH_DB) -d stuff_growth venv/bin/python bench/growth.py --most $(or $(MOST),1000000)

.PHONY: clean
clean: stop ## remove what was made, except the database
	@rm -rf venv .coverage* .mypy_cache .pytest_cache .ruff_cache {,tests/fuzz/}.{hypothesis,schemathesis} $(APP_LOG) .local/test.log
	find . -name __pycache__ -not -path './.local/*' -prune -exec rm -rf {} +
