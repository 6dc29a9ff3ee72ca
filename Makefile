# Everything a fresh machine needs: Python 3.11 to 3.13, make, git. `make` alone prints the targets.
#
# Two traps of editable installation in strict mode are handled here: it doesn't see new modules (so the project is installed again
# when the list of files changes: the stamp's name holds a digest of that list), and `python -m` would put the rooms on the path under
# their bare names (so PYTHONSAFEPATH is set).

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# The first Python that will do; PYTHON=python3.12 asks for another, which gets an environment of its own.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2])
ifeq ($(origin PYTHON),undefined)
  PYTHON := $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
    if $$candidate -c '$(SUPPORTED)' 2>/dev/null; then echo $$candidate; exit; fi; done; echo python3)
  VENV := .venv
else
  VENV := .venv-$(notdir $(PYTHON))
endif
BIN := $(VENV)/bin

ROOMS := api actuators baselines collectors configs deploy engine policies projections stands
LISTING := $(shell find $(ROOMS) -type f ! -path '*/__pycache__/*' 2>/dev/null | LC_ALL=C sort | cksum | cut -d ' ' -f 1)
DEPENDENCIES := $(VENV)/.dependencies
INSTALLED := $(VENV)/.installed-$(LISTING)

export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:  ## print the targets
	@echo "usage: make TARGET [ARGS=...] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
	  printf '%-16s %s\n' "  $$name" "$$text"; done

.PHONY: install
install: $(INSTALLED)  ## create the environment and install the locked dependencies and the project

.PHONY: run
run: $(INSTALLED)  ## run an episode on the embedded twin; its dataset lands under ./data
	@$(BIN)/ocg run --data-dir ./data $(ARGS)

# One process more than there are processors: many tests wait for a server or a clock.
PROCESSES := $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')

.PHONY: test
test: $(INSTALLED)  ## run the tests (ARGS='-k name' for some of them)
	@$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

# The cluster's arm of the suite with two arms. The kubeconfig has to be named here, not by the environment: the suite changes what it leads to.
.PHONY: test-cluster
test-cluster: $(INSTALLED)  ## run the suite of every action against a cluster: KUBECONFIG=FILE [LOAD_GENERATOR=URL] [FLAGD=URL]
	@test "$(origin KUBECONFIG)" = 'command line' || { echo 'name the cluster: make test-cluster KUBECONFIG=FILE (docs/how-to/test-a-cluster.md)' \
	  >&2; exit 2; }
	@OCG_TEST_KUBECONFIG='$(KUBECONFIG)' OCG_TEST_LOAD_GENERATOR='$(LOAD_GENERATOR)' OCG_TEST_FLAGD='$(FLAGD)' \
	  $(BIN)/python -m pytest tests/actuators/on_any_stand -m cluster $(ARGS)

# A stand, on the cluster that a kubeconfig leads to. It has to be named here, too: these change what is there.
.PHONY: stand-up
stand-up: $(INSTALLED)  ## install a stand, or go on with it: KUBECONFIG=FILE [ARGS='--config review-store']
.PHONY: stand-status
stand-status: $(INSTALLED)  ## say what of a stand is there and ready: KUBECONFIG=FILE
.PHONY: stand-down
stand-down: $(INSTALLED)  ## remove a stand: KUBECONFIG=FILE
stand-up stand-status stand-down:
	@test "$(origin KUBECONFIG)" = 'command line' || { echo 'name the cluster: make $@ KUBECONFIG=FILE (docs/how-to/install-a-stand.md)' >&2; exit 2; }
	@$(BIN)/ocg stand $(@:stand-%=%) --kubeconfig '$(KUBECONFIG)' $(ARGS)

.PHONY: stand-images
stand-images: $(INSTALLED)  ## list every image that a stand runs
	@$(BIN)/ocg stand images $(ARGS)

IMAGE := otel-control-gym:0.1.0
.PHONY: image
image:  ## build the image of gym, workers and janitor (IMAGE=name; needs docker, or ENGINE=podman)
	@$(or $(ENGINE),docker) build --file deploy/Dockerfile --tag '$(IMAGE)' .

# Every supported Python that this machine has besides the default one, by its path; `make PYTHON=path` gives each its own environment.
OTHER_PYTHONS = default=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in 3.11 3.12 3.13; do \
	  test $$version = "$$default" && continue; \
	  for candidate in python$$version $$HOME/.pyenv/versions/$$version.*/bin/python$$version; do \
	    if $$candidate -c '$(SUPPORTED)' >/dev/null 2>&1; then echo $$candidate; break; fi; \
	  done; \
	done

.PHONY: environments
environments: install rcaeval  ## an environment for every supported Python that is found: determinism is tested across them
	@for found in $$($(OTHER_PYTHONS)); do $(MAKE) install PYTHON=$$found || exit 1; done

# RCAEval's methods run on Python 3.12 (its own check: elsewhere it hides most of them), and on packages of their own.
RCAEVAL_LOCK := tests/projections/adapters/rcaeval.lock

.PHONY: rcaeval
rcaeval: .venv-rcaeval/.dependencies  ## the environment in which exported cases are ranked by RCAEval; needs Python 3.12

.venv-rcaeval/.dependencies: $(RCAEVAL_LOCK)
	@for candidate in python3.12 $$HOME/.pyenv/versions/3.12.*/bin/python3.12; do \
	  if $$candidate -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	    echo "installing RCAEval's dependencies into .venv-rcaeval (once)"; \
	    $$candidate -m venv .venv-rcaeval && .venv-rcaeval/bin/python -m pip install --quiet --requirement $< && touch $@; exit; \
	  fi; \
	done; echo "no Python 3.12 is here: exported cases aren't ranked by RCAEval"

.PHONY: test-all
test-all: environments  ## run the tests on every supported Python that is found, and say which were
	@passed=; failed=; \
	run() { echo "== $$1"; if $(MAKE) test $$2; then passed="$$passed $$1"; else failed="$$failed $$1"; fi; }; \
	run $(PYTHON); \
	for found in $$($(OTHER_PYTHONS)); do run $$(basename $$found) PYTHON=$$found; done; \
	echo "passed on:$${passed:- none}; failed on:$${failed:- none} (of 3.11, 3.12, 3.13, those that are installed)"; \
	test -n "$$passed" -a -z "$$failed"

.PHONY: lint
lint: $(INSTALLED)  ## Ruff's rules and format, and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

.PHONY: types
types: $(INSTALLED)  ## mypy, strict, on the rooms, the tests and the benchmarks
	@$(BIN)/mypy -p otel_control_gym
	@$(BIN)/mypy tests benchmarks docs
	@MYPYPATH=deploy/load-generator $(BIN)/mypy deploy/load-generator/*.py

.PHONY: bench
bench: $(INSTALLED)  ## measure; prints each figure beside its floor and writes benchmarks/results/*.json
	@PYTHONPATH=benchmarks $(BIN)/python benchmarks/run.py $(ARGS)

.PHONY: docs
docs: $(INSTALLED)  ## write the generated pages under docs/reference again
	@$(BIN)/python docs/generate.py

.PHONY: manifests
manifests: $(INSTALLED)  ## write the files of deploy/ that follow from the service configurations and the catalogue of actions
	@$(BIN)/python -c 'import pathlib; from otel_control_gym.engine.deployment import write; write(pathlib.Path("deploy"))'

.PHONY: lock
lock:  ## resolve requirements.lock anew (needs uv)
	@uv pip compile pyproject.toml --universal --python-version 3.11 --extra dev --upgrade --no-emit-index-url --no-annotate \
	  --custom-compile-command 'make lock' --quiet --output-file requirements.lock
	@uv pip compile $(RCAEVAL_LOCK:.lock=.in) --python-version 3.12 --upgrade --no-emit-index-url --no-annotate \
	  --custom-compile-command 'make lock' --quiet --output-file $(RCAEVAL_LOCK)

.PHONY: clean
clean:  ## remove environments, builds and caches; runs under ./data stay
	@rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEPENDENCIES): requirements.lock
	@$(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || { \
	  echo "otel-control-gym needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -c 'import platform; print(platform.python_version())' \
	  2>/dev/null || echo not there). Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' can't make virtual environments: its venv module is missing. On Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 2; }
	@echo "installing the locked dependencies into $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@touch $@

$(INSTALLED): $(DEPENDENCIES) pyproject.toml
	@rm -f $(VENV)/.installed-*
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . --config-settings editable_mode=strict
	@touch $@
