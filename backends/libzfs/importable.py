"""Pools that could be imported: what `zpool import` lists, and importing one of them."""

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from backends.libzfs import run, status
from backends.libzfs.enums import LpcError, PoolState, PoolStatus
from backends.libzfs.errors import ZFSException, ZFSInvalidCachefileException, from_stderr
from backends.libzfs.pools import ZFSPool
from backends.libzfs.run import options

if TYPE_CHECKING:
    from backends.libzfs.zfs import ZFS

_POOL = re.compile(r"^ ? ? ? ?pool: ", re.MULTILINE)
_DESTROYED = " (DESTROYED)"


class ZFSImportablePool(ZFSPool):
    """A pool that is not imported."""

    _found: status.Status
    _state_now: PoolState
    _search: list[str]

    @classmethod
    def _read(
        cls, root: "ZFS", found: status.Status, state: PoolState, search: list[str]
    ) -> "ZFSImportablePool":
        self = cls._of(root, found.name)
        self._found = found
        self._state_now = state
        self._search = search
        return self

    def _status(self) -> status.Status:
        return self._found

    @property
    def name(self) -> str:
        """The name it had."""
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = value

    @property
    def guid(self) -> int | None:
        """The number that names it for ever."""
        return self._found.guid

    @property
    def hostname(self) -> None:
        """None: the listing does not print who had it."""
        return None

    @property
    def state(self) -> PoolState:
        """EXPORTED, or DESTROYED."""
        return self._state_now

    @property
    def status_code(self) -> PoolStatus | None:
        """None, as in py-libzfs."""
        return None

    @property
    def status_detail(self) -> None:
        """None, as in py-libzfs."""
        return None

    @property
    def properties(self) -> None:
        """None: they can be read only once it is imported."""
        return None

    @property
    def features(self) -> None:
        """None: they can be read only once it is imported."""
        return None

    @property
    def root_dataset(self) -> None:
        """None: there is none before it is imported."""
        return None

    @property
    def error_count(self) -> int:
        """0."""
        return 0

    def create(self, *arguments: Any, **keywords: Any) -> NoReturn:
        """Refused: the pool is not imported."""
        raise NotImplementedError("the pool is not imported")

    def destroy(self, name: str) -> NoReturn:
        """Refused: the pool is not imported."""
        raise NotImplementedError("the pool is not imported")

    def attach_vdev(self, vdev: object) -> NoReturn:
        """Refused: the pool is not imported."""
        raise NotImplementedError("the pool is not imported")


def find(
    root: "ZFS",
    cachefile: str | None,
    name: str | None,
    destroyed: bool,
    search_paths: Sequence[str] | None,
) -> Iterator[ZFSImportablePool]:
    """The pools that can be imported; with `destroyed`, those that were destroyed too."""
    search: list[str] = []
    for path in search_paths or ():
        search += ["-d", os.fspath(path)]
    if cachefile:
        search = ["-c", cachefile]
    for option in ([], ["-D"]) if destroyed else ([],):
        for found, state in _listed([*option, *search], cachefile):
            if name in (None, found.name, str(found.guid)):
                yield ZFSImportablePool._read(root, found, state, search)


def _listed(arguments: list[str], cachefile: str | None) -> list[tuple[status.Status, PoolState]]:
    argv = ["zpool", "import", *arguments]
    done = run.attempt(argv)
    if "no pools available to import" in done.stderr:
        return []
    if done.status and not done.stdout:
        error = from_stderr(argv, done.stderr, done.status)
        if cachefile:
            raise ZFSInvalidCachefileException(int(LpcError.BADCACHE), str(error))
        raise error
    return [parse(text) for text in split(done.stdout)]


def split(output: str) -> list[str]:
    """The part of each pool in what `zpool import` printed."""
    starts = [match.start() for match in _POOL.finditer(output)]
    ends = [*starts[1:], len(output)]
    return [output[start:end] for start, end in zip(starts, ends, strict=True)]


def parse(text: str) -> tuple[status.Status, PoolState]:
    """One pool as `zpool import` prints it."""
    # A pool with a comment is indented by one more space.
    indent = " " if text.startswith("   pool: ") else ""
    text = "\n".join(line.removeprefix(indent) for line in text.split("\n"))
    fields = status.fields_of(text)
    state = fields["state"].strip()
    sections = status.config_sections(fields["config"])
    top = sections["data"][0]
    groups: dict[str, tuple[status.Node, ...]] = dict.fromkeys(status.GROUPS, ())
    groups |= sections
    groups["data"] = top.children
    found = status.Status(
        name=fields["pool"].strip("\n"),
        guid=int(fields["id"]),
        state=state.removesuffix(_DESTROYED),
        reason=" ".join(fields.get("status", "").split()),
        message_id="",
        error_count=0,
        root=top,
        groups=groups,
        scan=None,
        expansion=None,
    )
    gone = state.endswith(_DESTROYED)
    return found, PoolState.DESTROYED if gone else PoolState.EXPORTED


def import_pool(
    pool: ZFSImportablePool,
    newname: str,
    opts: Mapping[str, object],
    *,
    missing_log: bool,
    any_host: bool,
    load_keys: bool,
) -> None:
    """Import the pool under `newname` and mount its datasets."""
    if pool.guid is None:
        raise ZFSException(errno.EINVAL, "the pool has no guid")
    flags = [
        *(["-m"] if missing_log else []),
        *(["-f"] if any_host else []),
        *(["-l"] if load_keys else []),
        *(["-D"] if pool.state is PoolState.DESTROYED else []),
    ]
    argv = ["zpool", "import", *flags, *pool._search, *options(opts), str(pool.guid), newname]
    done = run.attempt(argv)
    if done.status:
        raise from_stderr(argv, done.stderr, done.status)
