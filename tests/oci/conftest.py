"""A store that refuses hostile archives, for the tests that have many of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagegraph.store import Store
from tests.conftest import require
from tests.oci.refusing import Refusing


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all tests, each of which leaves it empty."""
    require("root")
    with Store.init(str(tmp_path_factory.mktemp("hostile") / "root"), backend="vfs") as opened:
        yield opened


@pytest.fixture
def hostile(store: Store, tmp_path: Path) -> Iterator[Refusing]:
    refusing = Refusing(store, tmp_path)
    yield refusing
    refusing.clear()
    refusing.works()
