"""Several steps as one command. Not in py-libzfs, whose programs do them one by one in a process.

`program` runs a channel program. It is isolated (nothing happens between its steps), but not a
transaction: a step that fails leaves those before it done, so check first, then act.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from backends.libzfs import core, run
from backends.libzfs.enums import DatasetType
from backends.libzfs.errors import absent_is_success
from backends.libzfs.names import check, check_snapshot_part
from backends.libzfs.run import options

# The kernel takes no single argument of 128 KiB or more (MAX_ARG_STRLEN).
_MAX_ARGUMENT = 120 << 10

INSTRUCTIONS, MEMORY = 10_000_000, 10 << 20
"""The limits of a channel program where none are given (ZCP_DEFAULT_* of include/sys/fs/zfs.h)."""


def snapshot(names: Sequence[str], properties: Mapping[str, object] | None = None) -> None:
    """Take snapshots of several datasets of one pool at the same instant: all, or none.

    Raises ZFSException: EXISTS (also for two of the same dataset), NOENT, NOSPC, or TOOMANY for
    more than a command line takes.
    """
    for name in names:
        check(name, "create snapshot", DatasetType.SNAPSHOT)
    if names:
        run.run(["zfs", "snapshot", *options(properties), *names])


def destroy(dataset: str, names: Collection[str], *, defer: bool = False) -> None:
    """Destroy snapshots of one dataset by their short names; those that are gone are no error.

    All go or, where one is held or cloned, none of its command; only lists of more than 120 KiB
    take more than one command. Raises ZFSException: EXISTS (cloned), BUSY (held).
    """
    check(dataset, "destroy snapshots of", DatasetType.FILESYSTEM, DatasetType.VOLUME)
    option = ["-d"] if defer else []
    checked = [check_snapshot_part(name, "destroy snapshot") for name in names]
    for part in run.parts(checked, _MAX_ARGUMENT):
        with absent_is_success():
            run.run(["zfs", "destroy", *option, f"{dataset}@{','.join(part)}"])


def program(
    pool: str,
    script: str,
    arguments: Sequence[str] = (),
    *,
    readonly: bool = False,
    repeatable: bool = False,
    instructions: int = INSTRUCTIONS,
    memory: int = MEMORY,
) -> Any:
    """Run a channel program (zfs-program(8)) on a pool and return what it returned.

    The script finds `arguments` in `...["argv"]`, from 1. `readonly` runs it without a sync
    task: cheaper, and nothing can be changed. `repeatable` says that it does no harm to run it
    again when it did not come to its end: then no command is needed at first. Limits: Lua
    instructions, bytes. Tables come back as dicts (Lua's numbers as keys are strings), integers
    and text as they are.
    Raises ZFSException: PERM if not root, NOENT for no such pool, UNKNOWN for an error of the
    script, with its message.
    """
    printed = None
    if readonly or repeatable:
        printed = core.program(
            pool,
            script,
            arguments,
            readonly=readonly,
            instructions=instructions,
            memory=memory,
        )
    if printed is None:
        flags = ["-j", *(["-n"] if readonly else []), "-t", str(instructions), "-m", str(memory)]
        argv = ["zfs", "program", *flags, pool, "-", *arguments]
        printed = run.run(argv, feed=script.encode("utf-8", "surrogateescape"))
    return json.loads(printed).get("return")
