"""libzfs_core, for the steps of which a command costs too much. Not in py-libzfs.

Starting a command takes longer than what it is to do. `zfs clone`, besides, first reads all that
there is to know of the snapshot, the names of all its clones too: the thousandth costs ten times
what the first did. The library's calls are those that the commands themselves end in, a stable
interface (lib/libzfs_core/libzfs_core.c). Where one fails, or the library cannot be loaded, the
command is run after all: it does the step, or knows why not.
"""

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from backends.libzfs import run
from backends.libzfs.enums import DatasetType
from backends.libzfs.names import check

_UNIQUE_NAME = 1
"""NV_UNIQUE_NAME of include/sys/nvpair.h."""

_Pointer, _Text = ctypes.c_void_p, ctypes.c_char_p
_PointerTo = ctypes.POINTER(_Pointer)
_OF_A_PROGRAM = [_Text, _Text, ctypes.c_uint64, ctypes.c_uint64, _Pointer, _PointerTo]
_SIGNATURES: dict[str, dict[str, list[Any]]] = {
    "libnvpair.so.3": {
        "nvlist_alloc": [_PointerTo, ctypes.c_uint, ctypes.c_int],
        "nvlist_add_boolean": [_Pointer, _Text],
        "nvlist_add_string": [_Pointer, _Text, _Text],
        "nvlist_add_string_array": [_Pointer, _Text, ctypes.POINTER(_Text), ctypes.c_uint],
        "nvlist_print_json": [_Pointer, _Pointer],
        "nvlist_free": [_Pointer],
    },
    "libzfs_core.so.3": {
        "libzfs_core_init": [],
        "lzc_clone": [_Text, _Text, _Pointer],
        "lzc_snapshot": [_Pointer, _Pointer, _PointerTo],
        "lzc_channel_program": _OF_A_PROGRAM,
        "lzc_channel_program_nosync": _OF_A_PROGRAM,
    },
    "libc.so.6": {
        "open_memstream": [_PointerTo, ctypes.POINTER(ctypes.c_size_t)],
        "fclose": [_Pointer],
        "free": [_Pointer],
    },
}  # fmt: skip


class _Libraries(NamedTuple):
    pairs: ctypes.CDLL
    core: ctypes.CDLL
    c: ctypes.CDLL


@functools.cache
def _libraries() -> _Libraries | None:
    """The libraries, ready for calls; None where they are not or cannot be used."""
    try:
        loaded = _Libraries(*map(ctypes.CDLL, _SIGNATURES))
    except OSError:
        return None
    for library, functions in zip(loaded, _SIGNATURES.values(), strict=True):
        for name, arguments in functions.items():
            getattr(library, name).argtypes = arguments
    loaded.c.open_memstream.restype = _Pointer
    return None if loaded.core.libzfs_core_init() else loaded


def _for(texts: Iterable[str]) -> _Libraries | None:
    """The libraries, if they take these texts whole: C ends one at a zero byte."""
    return None if any("\0" in text for text in texts) else _libraries()


def _made(failed: int) -> None:
    """Raises MemoryError: nothing else makes the calls fail that make a list."""
    if failed:
        raise MemoryError


@contextlib.contextmanager
def _list(libraries: _Libraries) -> Iterator[ctypes.c_void_p]:
    """A new list of pairs (nvlist_t)."""
    listed = _Pointer()
    _made(libraries.pairs.nvlist_alloc(ctypes.byref(listed), _UNIQUE_NAME, 0))
    try:
        yield listed
    finally:
        libraries.pairs.nvlist_free(listed)


@contextlib.contextmanager
def _answer(libraries: _Libraries) -> Iterator[ctypes.c_void_p]:
    """Where a call may put a list of pairs."""
    answer = _Pointer()
    try:
        yield answer
    finally:
        libraries.pairs.nvlist_free(answer)


def clone(snapshot: str, name: str, properties: Mapping[str, str] | None = None) -> None:
    """Make the dataset `name` a clone of a snapshot, with user properties; nothing is mounted.

    Raises ZFSException: NOENT (the snapshot, or what `name` is to be in), EXISTS, NOSPC,
    CROSSTARGET (another pool), BADPROP.
    """
    check(name, "create", DatasetType.FILESYSTEM, DatasetType.VOLUME)
    check(snapshot, "clone", DatasetType.SNAPSHOT)
    given = properties or {}
    if not _clone(snapshot, name, given):
        run.run(["zfs", "clone", *run.options(given), snapshot, name])


def _clone(snapshot: str, name: str, properties: Mapping[str, str]) -> bool:
    libraries = _for([*properties, *properties.values()])
    if libraries is None:
        return False
    with _list(libraries) as given:
        for key, value in properties.items():
            _made(libraries.pairs.nvlist_add_string(given, os.fsencode(key), os.fsencode(value)))
        run.log.debug("%s", ["lzc_clone", snapshot, name])
        return not libraries.core.lzc_clone(os.fsencode(name), os.fsencode(snapshot), given)


def snapshot(name: str) -> None:
    """Take a snapshot. Raises ZFSException: EXISTS, NOENT, NOSPC."""
    check(name, "create snapshot", DatasetType.SNAPSHOT)
    if not _snapshot(name):
        run.run(["zfs", "snapshot", name])


def _snapshot(name: str) -> bool:
    libraries = _libraries()
    if libraries is None:
        return False
    with _list(libraries) as names, _answer(libraries) as refused:
        _made(libraries.pairs.nvlist_add_boolean(names, os.fsencode(name)))
        run.log.debug("%s", ["lzc_snapshot", name])
        return not libraries.core.lzc_snapshot(names, None, ctypes.byref(refused))


def program(
    pool: str,
    script: str,
    arguments: Sequence[str],
    *,
    readonly: bool,
    instructions: int,
    memory: int,
) -> str | None:
    """What a channel program returned, as `zfs program -j` prints it; None where it failed.

    A signal ends the call, between two steps of a program that changes something: unlike the
    command, this process may well get one that is for something else.
    """
    libraries = _for([pool, script, *arguments])
    if libraries is None:
        return None
    name = "lzc_channel_program_nosync" if readonly else "lzc_channel_program"
    with _list(libraries) as given, _answer(libraries) as answer:
        argv = (_Text * len(arguments))(*map(os.fsencode, arguments))
        _made(libraries.pairs.nvlist_add_string_array(given, b"argv", argv, len(arguments)))
        run.log.debug("%s", [name, pool, *arguments])
        texts = os.fsencode(pool), os.fsencode(script)
        failed = getattr(libraries.core, name)(
            *texts, instructions, memory, given, ctypes.byref(answer)
        )
        return None if failed else _json(libraries, answer)


def _json(libraries: _Libraries, pairs: ctypes.c_void_p) -> str | None:
    """A list of pairs as the library prints it; None where it cannot."""
    text, length = _Pointer(), ctypes.c_size_t()
    stream = libraries.c.open_memstream(ctypes.byref(text), ctypes.byref(length))
    if not stream:
        raise MemoryError
    try:
        failed = libraries.pairs.nvlist_print_json(stream, pairs)
        failed = libraries.c.fclose(stream) or failed
        return None if failed else os.fsdecode(ctypes.string_at(text, length.value))
    finally:
        libraries.c.free(text)
