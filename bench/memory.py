"""How much memory the two hungriest commands take."""

import os
import subprocess
import time
from collections.abc import Iterator

from measuring import COWSHED, Figure, cowshed

from imagegraph.store import Store

MB = 1_000_000
BOUND = 120
CHANGES_BOUND = 150
SPREAD = 1_000
CROWDED = 100_000


def peaks(root: str, archive: str) -> Iterator[Figure]:
    """The peak of resident memory of `import` and `diff`, all their processes together."""
    yield peak("memory of import of 450 MB", root, "import", archive, "bench:memory")
    cowshed(root, "rmi", "bench:memory")
    few, all_of_them, image = _many_files(root)
    yield peak("memory of diff of 20 changes in 200,000 files", root, "diff", few)
    yield peak("memory of diff of 200,000 new files", root, "diff", image)
    name = "memory of diff of 200,000 changed files"
    yield peak(name, root, "diff", all_of_them, bound=CHANGES_BOUND)


def peak(name: str, root: str, *arguments: str, bound: float = BOUND) -> Figure:
    """The peak of resident memory of a command, all its processes together, in MB.

    Sampled: the sum of their high-water marks, and the largest of them. Pages that two processes
    share count twice in the sum, so the truth is not above it.
    """
    process = subprocess.Popen(
        [COWSHED, "--root", root, *arguments], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    marks: dict[int, int] = {}
    while process.poll() is None:
        for pid in (process.pid, *_descendants(process.pid)):
            marks[pid] = max(marks.get(pid, 0), _high_water(pid))
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"bench: cowshed {' '.join(arguments)} failed")
    details = f"largest process {max(marks.values()) / MB:.0f} MB, {len(marks)} in all"
    return Figure(name, sum(marks.values()) / MB, bound, "MB", details)


def _descendants(pid: int) -> Iterator[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield child
        yield from _descendants(child)


def _high_water(pid: int) -> int:
    """VmHWM in bytes, 0 if the process is gone; proc_pid_status(5)."""
    try:
        with open(f"/proc/{pid}/status") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def _many_files(root: str) -> tuple[str, str, str]:
    """An image of 200,000 files, half of them in one directory.

    Returns a container with 20 changes, one with every file changed, and the image.
    """
    with Store.open(root) as store:
        image = store.add_image(_fill, {"config": {}})
        few, all_of_them = store.create(image, count=2)
        with store.open_tree(few) as tree:
            for number in range(20):
                with open(f"{tree}/spread-{number:04}/file-7", "w") as file:
                    file.write("changed\n")
        with store.open_tree(all_of_them) as tree:
            _write(tree, b"changed\n")
    return few.name, all_of_them.name, image.id


def _fill(tree: str) -> int:
    for directory, _ in _directories():
        os.mkdir(f"{tree}/{directory}")
    return _write(tree, b"moo\n")


def _write(tree: str, content: bytes) -> int:
    """Write every file; returns their bytes."""
    for directory, files in _directories():
        for number in range(files):
            path = f"{tree}/{directory}/file-{number}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.write(descriptor, content)
            os.close(descriptor)
    return len(content) * (SPREAD * 100 + CROWDED)


def _directories() -> list[tuple[str, int]]:
    """Each directory, and how many files it has."""
    return [*((f"spread-{number:04}", 100) for number in range(SPREAD)), ("crowded", CROWDED)]
