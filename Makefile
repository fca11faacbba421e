# The commands of this project. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAB ?= lab
export HAMAIL_LAB := $(LAB)

.DEFAULT_GOAL := help
.PHONY: schemas diagrams help venv packages check test unit-test model cluster-test demo bench simulate mutants soak fuzz coverage lab exec lab-down lab-status reference pictures deb wheel install lock audit clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

venv: $(VENV)/stamp ## Python environment with all that development needs

# The dev tools and the dependencies; again whenever their list changes.
$(VENV)/stamp: pyproject.toml requirements/dev.txt
	@tools/setup.sh venv "$(PYTHON)" "$(VENV)"
	@touch $@

packages: ## Debian packages that the lab needs, where they are missing
	@tools/setup.sh packages

check: venv ## style, types, import contracts, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy hamail
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/ratchet.py

test: ## everything, ends with counts; needs root for the lab
	@tools/test.sh

unit-test: venv ## the tests that need no lab
	@tools/test.sh quick

model: venv ## the model of the lease protocol, every variant, as a table; needs spin and gcc
	@tools/setup.sh tests
	@$(BIN)/python -m tests.model.check

cluster-test: packages venv ## the tests on real nodes only
	@tools/test.sh cluster

demo: packages venv ## a mail service survives the loss of its active server
	@$(BIN)/python -m tests.lab.demo

bench: packages venv ## outages and costs, measured; writes build/bench.json
	@$(BIN)/python -m tests.lab.bench

simulate: venv ## whole clusters under faults, simulated (SEEDS=n HOURS=h FROM=seed JOBS=2)
	@$(BIN)/python -m hamail.simulation --seeds $(or $(SEEDS),200) $(if $(HOURS),--hours $(HOURS)) --from $(or $(FROM),1) --jobs $(or $(JOBS),2)

mutants: venv ## every planted bug must be found (NAMES='a b' JOBS=2)
	@$(BIN)/python -m tests.simulation.mutants --jobs $(or $(JOBS),2) $(NAMES)

fuzz: venv ## any bytes to every reader (SECONDS=30 each, or INPUTS=n each; TARGET=a,b JOBS=2 SEED=1 ENGINE=plain)
	@$(BIN)/python -m tests.fuzz $(if $(INPUTS),--inputs $(INPUTS),--seconds $(or $(SECONDS),30)) $(if $(TARGET),--target $(TARGET)) --jobs $(or $(JOBS),2) --seed $(or $(SEED),1) --engine $(or $(ENGINE),atheris)

coverage: venv ## branch coverage of core, consensus and executor; fails below 95 %
	@tools/coverage.sh

soak: packages venv ## failovers on real nodes under random faults (FAILOVERS=n SEED=s LABS=k MINUTES=m KINDS=a,b PLANT=bug)
	@$(BIN)/python -m tests.soak $(if $(FAILOVERS),--failovers $(FAILOVERS)) $(if $(SEED),--seed $(SEED)) $(if $(LABS),--labs $(LABS)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(KINDS),--kinds $(KINDS)) $(if $(PLANT),--plant $(PLANT))

lab: packages venv ## a running cluster of three real nodes (LAB=name for another one)
	@$(BIN)/python -m tests.lab up $(UP)

exec: venv ## make exec NODE=n1 CMD='hamailctl status'
	@$(BIN)/python -m tests.lab exec $(or $(NODE),n1) $(if $(CMD),'$(subst ','\'',$(CMD))')

lab-status: venv ## what is on, and whether the cluster is healthy
	@$(BIN)/python -m tests.lab status

lab-down: venv ## remove every trace of the lab
	@$(BIN)/python -m tests.lab down

pictures: packages venv ## the screens of the documentation, from a real lab; needs chromium for the drill
	@$(BIN)/python -m tests.lab.pictures

schemas: venv ## docs/schemas anew: what every command prints with --json
	@$(BIN)/python tools/schemas.py

diagrams: venv ## docs/diagrams anew, from the code's own tables
	@$(BIN)/python tools/diagrams.py

reference: venv ## docs/reference anew, from the code
	@$(BIN)/python tools/reference.py

deb: venv ## Debian package: dist/hamail_VERSION_ARCH.deb (TARGET_PYTHON=3.13 for another release of Debian)
	@PYTHON="$(BIN)/python" TARGET_PYTHON="$(TARGET_PYTHON)" TARGET_ARCH="$(TARGET_ARCH)" tools/deb.sh dist

wheel: venv ## Python wheel, with agents, units and samples as data: dist/hamail-VERSION-py3-none-any.whl
	@PYTHON="$(BIN)/python" tools/wheel.sh dist

install: ## the files of the package put onto this machine, as root: where there is no dpkg
	@tools/install.sh

lock: ## requirements/*.txt anew from pyproject.toml (UPGRADE=1: with the newest versions)
	@UPGRADE="$(UPGRADE)" tools/lock.sh "$(PYTHON)"

audit: ## known holes in the dependencies, unsafe constructs in our code; ends with 3 where advisories cannot be reached
	@[ -x build/audit/bin/pip-audit ] || "$(PYTHON)" -m venv build/audit
	@build/audit/bin/pip install -qq --require-hashes -r requirements/audit.txt
	@tools/audit.sh build/audit/bin

clean: ## what builds and tests leave in the tree
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
