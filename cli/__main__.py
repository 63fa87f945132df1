"""`python -m cli` is `cowshed`."""

from cli.main import run

run()
