# The interpreter of .venv, and what to hand to pytest: make test PYTHON=python3.12 ARGS="-k redis"
PYTHON ?= python3
ARGS ?=

# The stand-in for MongoDB needs Python 3.13. The first of these that runs (a shim may not) and is that new is taken.
MONGODB_PYTHONS = $(PYTHON) python3.14 python3.13 $(wildcard $(HOME)/.pyenv/versions/3.1[3-9]*/bin/python)
MONGODB = $(if $(WSGISESSION_TEST_MONGODB_URL),,.venv-mongodb/ready)

# The tests in a browser take the first of these that is there; where none is, Debian's is installed, if that can be.
BROWSERS = chromium chromium-browser google-chrome google-chrome-stable $(WSGISESSION_TEST_CHROMIUM)

PIP_INSTALL = -m pip --disable-pip-version-check --quiet install

.PHONY: help test long mutants upstream check style wheel docs demo bench browser clean

help:
	@echo 'make test     run the tests, on real servers that pip brings'
	@echo 'make upstream run the test suites of Flask, Django, and others on our sessions (ARGS="flask-login --store redis")'
	@echo 'make mutants  change the core in small ways, and show what no test notices (ARGS="wsgisession.session*")'
	@echo 'make long     all that takes long: soak, kills, many examples, mutants, every version, and make upstream'
	@echo 'make check    lint, format, types, spelling and style, and the wheel in an empty environment'
	@echo 'make style    check the spelling and style of everything that people read'
	@echo 'make demo     run the demonstration (TLS=1: over https, with sessions that are bound to a device)'
	@echo 'make docs     build the documents into docs/_build'
	@echo 'make bench    measure, print the tables, and write them and the plots into docs (ARGS=--quick: only print)'
	@echo 'make clean    remove all that these made'

test: .venv/test $(MONGODB) browser
	.venv/bin/python -m pytest $(ARGS)

upstream: .venv/test
	.venv/bin/python -m tests.upstream $(ARGS)

mutants: .venv/mutants
	.venv/bin/python -m tests.mutants $(ARGS)

# Each part runs, whatever became of the parts before it.
long: .venv/test .venv/mutants $(MONGODB) browser
	WSGISESSION_TEST_SECONDS=120 .venv/bin/python -m pytest -s tests/long/soak.py tests/long/kills.py; soak=$$?; \
	WSGISESSION_TEST_SCRIPTS=20000 WSGISESSION_TEST_SEED=$$(date +%s) .venv/bin/python -m pytest -s tests/compat/test_differential.py; scripts=$$?; \
	WSGISESSION_TEST_PROFILE=long .venv/bin/python -m pytest --timeout=3600 tests/test_merge.py tests/test_codec.py tests/test_cookies.py; examples=$$?; \
	.venv/bin/python -m tests.mutants; mutants=$$?; \
	.venv/bin/python -m nox; versions=$$?; \
	$(MAKE) upstream; upstream=$$?; \
	echo "soak and kills $$soak, scripts $$scripts, examples $$examples, mutants $$mutants, versions $$versions, upstream $$upstream (0: passed)"; \
	test $$((soak + scripts + examples + mutants + versions + upstream)) -eq 0

check: .venv/check wheel style
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

style: .venv/check
	.venv/bin/codespell
	.venv/bin/python -m tests.style

wheel: .venv/check
	rm -rf dist
	mkdir dist
	.venv/bin/python -m build . >dist/log || { cat dist/log; exit 1; }
	.venv/bin/python -m venv dist/venv
	dist/venv/bin/python $(PIP_INSTALL) dist/*.whl
	cd dist && venv/bin/python -W error -c 'import wsgisession; wsgisession.open_store("sqlite:///sessions.db")'

docs: .venv/docs
	.venv/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo 'Open docs/_build/index.html'

demo: .venv/demo
	.venv/bin/python -m demo_flask

bench: .venv/bench .venv/node_modules
	.venv/bin/python -m benchmarks $(ARGS)

browser: .venv/test
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit; done; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium fonts-dejavu-core >/dev/null || \
	    echo 'No browser was found, and apt-get could not install one: the tests in a browser will be skipped.'

clean:
	rm -rf .venv .venv-mongodb .upstream .venv-old mutants .nox build dist docs/_build demo_flask/instance *.egg-info .hypothesis .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Express, to compare with, where npm is there.
.venv/node_modules: | .venv/bin/python
	@command -v npm >/dev/null || exit 0; \
	npm install --silent --no-fund --no-audit --prefix .venv express express-session connect-redis redis

# .venv/EXTRA: what that extra of setup.cfg names is installed.
.venv/%: setup.cfg pyproject.toml | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) --editable '.[$*]'
	@touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv-mongodb/ready:
	@for python in $(MONGODB_PYTHONS); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null || continue; \
	    $$python -m venv .venv-mongodb && .venv-mongodb/bin/python $(PIP_INSTALL) 'mongoeco[wire]>=4.11' && touch $@; \
	    exit; \
	done; \
	echo 'No Python 3.13 or later was found: the tests on MongoDB will fail, and say what to do.'
