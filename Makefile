.DEFAULT_GOAL := help
.PHONY: help demo test test-btrfs test-zfs test-zfs-here vagrant-test check format bench bench-zfs clean

PYTHON_RUN := .venv/bin/python
PYTEST := $(PYTHON_RUN) -m pytest -n 2 --dist loadfile
GUEST := vagrant/guest --cpus 2 --memory 4G

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Show the main job on a real Debian root filesystem (or DEMO_ROOTFS=file.tar)
	@scripts/setup demo
	@scripts/demo

test: test-btrfs test-zfs ## Run the whole test suite

test-btrfs: ## Run all but the tests on ZFS (PYTEST_ARGS="-k name" for a part of it)
	@scripts/setup test
	$(PYTEST) -m "not zfs" $(PYTEST_ARGS)

test-zfs: ## Run the tests on ZFS in a virtual machine, which is built on first use
	@scripts/setup test
	$(GUEST) --timeout 1500 --env COWSHED_REQUIRE $(PYTEST) -p no:cacheprovider -m zfs $(PYTEST_ARGS)

test-zfs-here: ## Run the tests on ZFS on this machine, which has it
	@scripts/setup test
	$(PYTEST) -m zfs $(PYTEST_ARGS)

vagrant-test: ## Run the whole suite on two hosts, one with btrfs and one with ZFS
	vagrant/test

check: ## Lint, formatting, types and the direction of imports
	@scripts/setup check
	$(PYTHON_RUN) -m ruff check
	$(PYTHON_RUN) -m ruff format --check
	$(PYTHON_RUN) -m mypy
	.venv/bin/lint-imports

format: ## Rewrite the sources as `check` wants them
	@scripts/setup check
	$(PYTHON_RUN) -m ruff check --fix
	$(PYTHON_RUN) -m ruff format

bench: ## Measure what the README claims
	@scripts/setup
	$(PYTHON_RUN) bench/run.py

bench-zfs: ## Measure what it claims of ZFS, in the virtual machine of test-zfs
	@scripts/setup test
	$(GUEST) $(PYTHON_RUN) bench/zfs.py

clean: ## Remove what was built, and the virtual environment
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
