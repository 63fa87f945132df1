"""What a filesystem that knows what was written to it tells the walk of two trees."""

import os
from collections.abc import Callable, Set
from typing import NamedTuple

from backends.tree import Cursor, lstat

Marks = dict[int, set[bytes]]
"""By a directory's inode number: names in it."""


class Hints(NamedTuple):
    """Where two trees may differ.

    An inode number that both trees have and that is not among `suspects` is the same inode in
    both, equal in content, attributes and names; as a directory, it has the same entries. `marks`
    lead down the newer tree: to every name that a suspect has there, through all directories above.

    The names that only the older tree has need no marks. Their directories are suspects; and a
    file that has as many names as it had, but others, has one in the newer tree that shows it.
    """

    suspects: Set[int]
    marks: Marks


def linked_below(directory: int, skip: Callable[[os.stat_result], bool]) -> set[int]:
    """The inode numbers of the files with several names below a directory open as `directory`.

    When a directory was moved, the set of their names has changed, and yet nothing was written to
    them: they are suspects. What is below a directory for which `skip` holds is left out.
    """
    found = set()
    with Cursor(f"/proc/self/fd/{directory}") as cursor:
        pending = [iter(list(cursor.entries()))]
        while pending:
            for name, is_directory in pending[-1]:
                status = lstat(name, cursor.fd)
                if not is_directory:
                    if status.st_nlink > 1:
                        found.add(status.st_ino)
                elif not skip(status):
                    cursor.enter(name)
                    pending.append(iter(list(cursor.entries())))
                    break
            else:
                pending.pop()
                if pending:
                    cursor.leave()
    return found
