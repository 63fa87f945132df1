"""A backend on ZFS for the tests of what only ZFS does."""

from collections.abc import Iterator

import pytest

from backends import zfs_dataset
from backends.zfs import ZfsBackend
from tests.backends.zfs_volumes import everything, zfs


@pytest.fixture(scope="module")
def shared(zpool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZfsBackend]:
    """A backend that the module shares; a space is in its path and in its dataset's name."""
    root = tmp_path_factory.mktemp("a root")
    dataset = f"{zpool}/a store"
    zfs_dataset.prepare(str(root), dataset)
    yield ZfsBackend(str(root))
    zfs("destroy", "-R", dataset)


@pytest.fixture
def backend(shared: ZfsBackend) -> Iterator[ZfsBackend]:
    """The shared backend, in which a test leaves nothing."""
    before = everything(shared)
    yield shared
    assert everything(shared) == before
