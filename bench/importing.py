"""What an import costs against GNU tar, which promises less: it does not write anything back."""

import os
from collections.abc import Callable, Iterator

import btrfsutil
import pool
from measuring import COWSHED, Figure, cowshed, in_turns, ratio, run, seconds

EXACT = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-xpf")


def against_tar(root: str, archive: str) -> Iterator[Figure]:
    """`import` as a whole process against `tar -x` into a fresh subvolume."""
    target = f"{os.path.dirname(root)}/extracted"

    def imported() -> float:
        taken = seconds(lambda: run(COWSHED, "--root", root, "import", archive, "bench:import"))
        cowshed(root, "rmi", "bench:import")
        pool.settle(root)
        return taken

    def extracted(*options: str, sync: bool = False) -> Callable[[], float]:
        def extract() -> None:
            run("tar", "-C", target, *options, archive)
            if sync:
                btrfsutil.sync(target)

        def measured() -> float:
            btrfsutil.create_subvolume(target)
            taken = seconds(extract)
            btrfsutil.delete_subvolume(target)
            pool.settle(root)
            return taken

        return measured

    with open(archive, "rb") as file:
        while file.read(1 << 20):
            pass
    whole, exact, plain, synced = in_turns(
        7, imported, extracted(*EXACT), extracted("-xpf"), extracted("-xpf", sync=True)
    )
    name = "import of 450 MB / tar"
    over = ("import", whole)
    yield ratio(f"{name} --xattrs --acls -xp", 1.6, over, ("tar", exact))
    yield ratio(f"{name} -xp", 1.6, over, ("tar", plain))
    yield ratio(f"{name} -xp, synced", None, over, ("tar and sync", synced))
