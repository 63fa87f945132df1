"""A btrfs filesystem of the benchmark's own: a sparse file, loop-mounted, gone afterwards."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator

import btrfsutil
from measuring import run


@contextlib.contextmanager
def mounted(directory: str, name: str, size: int) -> Iterator[str]:
    """A fresh btrfs of `size` bytes, in the file `name` of `directory`, mounted while it lasts."""
    file, point = f"{directory}/{name}.btrfs", f"{directory}/{name}"
    with contextlib.ExitStack() as stack:
        with open(file, "wb") as sparse:
            stack.callback(os.unlink, file)
            sparse.truncate(size)
        run("mkfs.btrfs", "-q", file)
        os.mkdir(point)
        stack.callback(os.rmdir, point)
        run("mount", "-t", "btrfs", "-o", "loop,noatime", file, point)
        stack.callback(_unmount, point)
        yield point


def _unmount(point: str) -> None:
    for _ in range(20):
        if subprocess.run(["umount", point], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.5)
    run("umount", "--lazy", point)


def settle(point: str) -> None:
    """Wait until deleted subvolumes are gone and everything is written, in the file beneath too."""
    while btrfsutil.deleted_subvolumes(point):
        btrfsutil.sync(point)
        time.sleep(0.05)
    btrfsutil.sync(point)
    os.sync()


def dirty_bytes() -> int:
    """Bytes in the page cache that still have to be written."""
    with open("/proc/meminfo") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields["Dirty"].split()[0]) << 10
