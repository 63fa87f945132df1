.DEFAULT_GOAL := help
.PHONY: help demo test check format bench clean

PYTHON_RUN := .venv/bin/python

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Show the main job on a real Debian root filesystem (or DEMO_ROOTFS=file.tar)
	@scripts/setup demo
	@scripts/demo

test: ## Run the whole test suite (PYTEST_ARGS="-k name" for a part of it)
	@scripts/setup test
	$(PYTHON_RUN) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

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

clean: ## Remove what was built, and the virtual environment
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
