"""The rows of what was made in containers' trees to mount something on."""

from imagegraph.database import Database


class MountPointRows(Database):
    """Which entries of a container's tree are mount points that were made for it."""
