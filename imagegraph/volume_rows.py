"""The rows of data volumes, and of which containers they are attached to."""

from imagegraph.database import Database


class VolumeRows(Database):
    """Data volumes: what outlives the containers that write to it."""
