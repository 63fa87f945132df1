.DEFAULT_GOAL := help

PYTHON_RUN := .venv/bin/python
PYTEST := $(PYTHON_RUN) -m pytest -n 2 --dist loadfile
GUEST := vagrant/guest --memory 4G
ZFS_PARTS := commands stores running
ZFS_commands := tests/libzfs tests/cli tests/crash tests/contract
ZFS_stores := tests/backends tests/store
ZFS_running := tests/running
ZFS_GUESTS := $(addprefix zfs/,$(ZFS_PARTS))
AT_ONCE := $(MAKE) --jobs=2 --output-sync=target

.PHONY: help demo test test-btrfs test-zfs test-zfs-here vagrant-test check format bench bench-zfs clean
.PHONY: here $(ZFS_GUESTS)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Show the main job on a real Debian root filesystem (or DEMO_ROOTFS=file.tar)
	@scripts/setup demo
	@scripts/demo

test: ## Run the whole test suite: on this machine, and beside that on ZFS in virtual machines
	@scripts/setup test
	vagrant/guest --build > /dev/null
	$(AT_ONCE) here $(ZFS_GUESTS)

test-btrfs: ## Run all but the tests on ZFS (PYTEST_ARGS="-k name" for a part of it)
	@scripts/setup test
	$(MAKE) here

test-zfs: ## Run the tests on ZFS in virtual machines, which are built on first use
	@scripts/setup test
	vagrant/guest --build > /dev/null
	$(AT_ONCE) $(ZFS_GUESTS)

here:
	$(PYTEST) -m "not zfs" $(PYTEST_ARGS)

# Not two processes in one guest: a pool that a test suspends holds up whatever looks at all pools.
$(ZFS_GUESTS): zfs/%:
	$(GUEST) --timeout 1800 --env COWSHED_REQUIRE $(PYTHON_RUN) -m pytest -p no:cacheprovider -m zfs \
	  $(ZFS_$*) $(PYTEST_ARGS)

test-zfs-here: ## Run the tests on ZFS on this machine, which has it
	@scripts/setup test
	$(PYTHON_RUN) -m pytest -m zfs $(PYTEST_ARGS)

vagrant-test: ## Run the whole suite on two hosts, one with btrfs and one with ZFS
	vagrant/test

check: ## Lint, formatting, types and the direction of imports
	@scripts/setup check
	$(PYTHON_RUN) -m ruff check
	$(PYTHON_RUN) -m ruff format --check
	$(PYTHON_RUN) -m mypy
	$(PYTHON_RUN) -m mypy $(addprefix vagrant/,box guest libvirtd test)
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
