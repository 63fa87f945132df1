"""A store into which hostile archives are loaded, and what must be true of it afterwards."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from backends.errors import CowshedError
from imagegraph.check import check
from imagegraph.store import Store
from oci.loading import load
from tests.oci.bundles import BETTER, GOOD, Block, docker, written


class Refusing:
    """An empty store, and a directory beside it for archives."""

    def __init__(self, store: Store, beside: Path) -> None:
        self.store = store
        self.beside = beside
        self._before = sorted(os.listdir(store.root))

    def refuse(
        self,
        archive: Mapping[str, bytes | Block] | bytes | Path,
        kind: type[CowshedError] = CowshedError,
    ) -> str:
        """What loading it says: one line. Nothing is left then."""
        source = archive
        if not isinstance(source, Path):
            source = written(source, self.beside / "archive")
        before = self._open_files()
        with pytest.raises(kind) as caught:
            load(self.store, str(source))
        message = str(caught.value)
        assert message.isprintable() and 20 < len(message) < 1000, message
        del caught
        self.is_empty()
        assert self._open_files() == before
        return message

    def take(self, archive: Mapping[str, bytes | Block] | Path) -> dict[str, bytes]:
        """The files of the image that comes of an archive that is odd but right."""
        source = archive if isinstance(archive, Path) else written(archive, self.beside / "archive")
        [loaded] = load(self.store, str(source))
        with self.store.open_tree(loaded.image) as tree:
            files = {
                str(path.relative_to(tree)): path.read_bytes()
                for path in Path(tree).rglob("*")
                if path.is_file() and not path.is_symlink()
            }
        self.store.remove_image(loaded.image.id, force=True)
        self.is_empty()
        return files

    def _open_files(self) -> list[str]:
        """The files in the store and beside it that this process has open.

        Not all that it has open: threads and garbage of other tests may be about.
        """
        found = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/self/fd/{number}"))
        own = (self.store.root, str(self.beside))
        return sorted(name for name in found if name.startswith(own))

    def is_empty(self) -> None:
        """No image, no row, no volume, no file: as if nothing had ever been loaded."""
        store = self.store
        assert store.graph.images() == []
        assert store.graph.known("layers") == store.graph.known("containers") == {}
        assert list(store.backend.volumes()) == store.backend.leftovers() == []
        splits = Path(store.root, "splits")
        assert not splits.exists() or os.listdir(splits) == []
        assert {*os.listdir(store.root)} <= {*self._before, "splits", "mnt"}
        assert check(store) == []

    def clear(self) -> None:
        """Remove what a test that failed has left, so that the next one can say what it finds."""
        for image in self.store.graph.images():
            self.store.remove_image(image.id, force=True)

    def works(self) -> None:
        """A good archive loads right after."""
        files = self.take(docker(GOOD, BETTER, name="good:1"))
        assert files == {"etc/motd": b"moo\n", "etc/hostname": b"barn\n"}


def dumped(value: object) -> bytes:
    """The JSON of a document, or the bytes that are to stand for it."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()
