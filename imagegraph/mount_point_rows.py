"""The rows of what was made in containers' trees to mount something on."""

import sqlite3
from collections.abc import Iterable

from imagegraph.database import Database
from imagegraph.errors import NotFound


class MountPointRows(Database):
    """Which entries of a container's tree are mount points that were made for it."""

    def add_mount_points(self, container: str, points: Iterable[tuple[bytes, str]]) -> None:
        """Record paths, relative to the tree, each with its kind, "directory" or "file".

        Within a transaction. Raises NotFound if the container is gone.
        """
        try:
            for path, kind in points:
                self._rows(
                    "INSERT OR REPLACE INTO mount_points VALUES (?, ?, ?)", container, path, kind
                )
        except sqlite3.IntegrityError as error:
            raise NotFound(f"container {container[:12]} was removed meanwhile") from error

    def mount_points(self, container: str) -> list[tuple[bytes, str]]:
        """The paths with their kinds, in byte order: what is in a directory comes after it."""
        statement = "SELECT path, kind FROM mount_points WHERE container = ? ORDER BY path"
        return [(path, kind) for path, kind in self._rows(statement, container)]
