# All tasks of this repository. Each target first makes .venv if it is missing or out of date, so on a fresh machine with
# make and Python 3.11 or later any of them can be the first command.

BIN := .venv/bin
STAMP := .venv/.installed
PEERS := .venv/bench/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-k8s lint types arch format sim sim-many models interleavings mutants crash replicas fuzz bench bench-backlog schemas docs screenshots lock sbom clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

demo: $(STAMP) ## run the whole job on this machine in under a minute; ARGS=--stay keeps it running, with the page
	@$(BIN)/reconciler demo $(ARGS)

# pytest comes last, so that its summary ends the output. Tests of one file stay in one process, in their order. Tests
# mostly wait, so four processes suit two cores. WORKERS=0 runs all tests in one process. Compiled modules are kept,
# whatever the shell says: each process would compile all tests again.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(STAMP) ## run what CI runs besides test-k8s: lint, types, arch, docs, all tests; names missing real parts
	@scripts/real-parts
	@$(MAKE) --no-print-directory lint types arch docs
	@$(BIN)/python -m pytest -n $(or $(WORKERS),4) --dist loadfile --no-loadscope-reorder \
		--ignore tests/kubernetes $(PYTEST_ARGS)

# The cache is outside of this folder, so `make clean` and other work trees keep it.
test-k8s: $(STAMP) ## check the Kubernetes manifests against a real API server, which Go builds once, in some minutes
	@scripts/kubernetes-parts
	@$(BIN)/python -m pytest tests/kubernetes

lint: $(STAMP) ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## check types
	@$(BIN)/mypy

arch: $(STAMP) ## check that layers import only downwards and that the core is pure
	@$(BIN)/lint-imports --no-logo

format: $(STAMP) ## fix imports and layout
	@$(BIN)/ruff check --select I,D212,D213 --fix --quiet .
	@$(BIN)/ruff format .

# STEPS: how many things happen before the faults stop. ARGS: --trace, --mutant NAME, --crash-at EFFECT, --store NAME.
sim: $(STAMP) ## run one simulated world: SEED=1 STEPS=40; the same seed gives the same run, to the byte
	@$(BIN)/python -m tests.sim --seed $(or $(SEED),1) --steps $(or $(STEPS),40) $(ARGS)

sim-many: $(STAMP) ## run many simulated worlds on all processors, a fifth with several replicas: N=1000, starting with SEED=1
	@nice $(BIN)/python -m tests.sim --many $(or $(N),1000) --seed $(or $(SEED),1) --steps $(or $(STEPS),40) $(ARGS)
	@nice $(BIN)/python -m tests.sim --many $$(($(or $(N),1000) / 4)) --seed $(or $(SEED),1) --several $(ARGS)

# ARGS: --only PART-OF-A-NAME, --way.
models: $(STAMP) ## search models of several replicas in every order of events, some minutes
	@nice $(BIN)/python -m tests.models $(ARGS)

interleavings: $(STAMP) ## run statements of three owners of a store on PostgreSQL in random orders: N=10000 SEED=1
	@nice $(BIN)/python -m tests.contracts.interleaving --count $(or $(N),10000) --seed $(or $(SEED),1)

# ARGS: --only PART-OF-A-PATH (or the name of a bug), --show, --output FILE, --again FILE.
mutants: $(STAMP) ## make mistakes in the core, one at a time, and list those that no test notices: N=200 SEED=1
	@nice $(BIN)/python -m tests.mutants --count $(or $(N),200) --seed $(or $(SEED),1) --workers $(or $(WORKERS),2) $(ARGS)

crash: $(STAMP) ## kill the daemon on a real broker, hundreds of times, and check the result: KILLS=300 SEED=1
	@nice $(BIN)/python -m tests.crash --kills $(or $(KILLS),300) --seed $(or $(SEED),1) $(ARGS)

replicas: $(STAMP) ## kill, stop and cut off three replicas on a real PostgreSQL and broker: ROUNDS=50 SEED=1
	@nice $(BIN)/python -m tests.replicas --rounds $(or $(ROUNDS),50) --seed $(or $(SEED),1) $(ARGS)

# With atheris (`pip install atheris`) half of the time goes to inputs that follow coverage, the rest to Hypothesis.
fuzz: $(STAMP) ## feed hostile input to everything that reads from outside: MINUTES=10
	@nice $(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10) $(ARGS)

# ARGS: a benchmark's name, --rounds N, --write.
bench: $(STAMP) $(PEERS) ## measure, each number as a ratio to others who do the same in the same run
	@$(BIN)/python -m benchmarks $(ARGS)

bench-backlog: $(STAMP) ## measure memory while folding ten million events; takes half an hour and 10 GB of disk
	@$(BIN)/python -m benchmarks backlog --rounds 1

schemas: $(STAMP) ## check the schemas and their examples
	@$(BIN)/python -m pytest tests/schemas -q

docs: $(STAMP) ## check links, and that generated pages are current
	@$(BIN)/python docs/check.py

screenshots: $(STAMP) ## take new pictures of the operators' page; needs Chromium
	@$(BIN)/python -m docs.screenshots

# UPGRADE=--upgrade takes newer versions; without it only changes of pyproject.toml are resolved. The benchmarks' peers
# and the image have their own locks with the same versions: packages that run in it, and packages that build it. Only
# confluent-kafka differs in the peers' lock.
COMPILE = .venv/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --annotation-style line --custom-compile-command 'make lock'
lock: $(STAMP) ## resolve pyproject.toml into requirements*.lock, with the hashes of all files
	@rm -rf .venv/lock && $(BIN)/python -m venv .venv/lock && .venv/lock/bin/python -m pip install --quiet uv
	@$(COMPILE) pyproject.toml --extra dev $(UPGRADE) --output-file requirements.lock
	@sed -n 's/^\([a-z0-9._-]*==[^ ]*.*\) \\$$/\1/p' requirements.lock | grep -v ^confluent-kafka= >.venv/lock/same
	@$(COMPILE) pyproject.toml --extra bench --constraint .venv/lock/same --upgrade --output-file requirements-bench.lock
	@$(COMPILE) pyproject.toml --extra apprise --extra avro --extra aws --extra compression --extra email --extra postgres \
		--extra simulator --constraint requirements.lock \
		--upgrade --output-file requirements-image.lock
	@echo hatchling | $(COMPILE) - --constraint requirements.lock --upgrade --output-file requirements-build.lock
	@rm -rf .venv/lock

# The list names the version and the time of the commit, so that the same commit gives the same list. The version is in
# reconciler/__init__.py alone, so the tool gets a copy of pyproject.toml that has it.
SBOM := dist/sbom.cdx.json
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' reconciler/__init__.py)
sbom: $(STAMP) ## list the packages of the image with their hashes, in CycloneDX's form, in dist/sbom.cdx.json
	@mkdir -p $(dir $(SBOM))
	@sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml >$(SBOM).toml
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -W ignore -m cyclonedx_py requirements \
		requirements-image.lock --pyproject $(SBOM).toml --mc-type application --output-reproducible --validate \
		--output-format JSON --output-file $(SBOM)
	@rm $(SBOM).toml

clean: ## remove .venv, caches and build output; databases and logs stay
	@rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PEERS): requirements-bench.lock $(STAMP)
	@echo "installing what the benchmarks compare with into .venv/bench" >&2
	@$(BIN)/python -m venv --clear .venv/bench
	@.venv/bench/bin/python -m pip install --quiet --require-hashes --requirement requirements-bench.lock
	@touch $@

$(STAMP): pyproject.toml requirements.lock scripts/venv
	@scripts/venv
	@touch $@
