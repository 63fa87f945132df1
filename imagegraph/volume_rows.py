"""The rows of data volumes, and of which containers they are attached to.

A volume that is made for a container is attached to it from its first row on, and `ready` no sooner
than the container. One that is `ready` and has an owner is being filled by it.
"""

import json
from typing import Any, NamedTuple

from imagegraph.database import Database
from imagegraph.errors import Ambiguous
from imagegraph.model import DataVolume

_VOLUME = "id, name, anonymous, created, labels"


class Attached(NamedTuple):
    """What a container has at `target`; `state` and `owner` are the volume's."""

    target: str
    volume: DataVolume
    state: str
    owner: int | None


class VolumeRows(Database):
    """Data volumes: what outlives the containers that write to it."""

    def add_volume(self, volume: DataVolume, owner: int) -> None:
        """A row in state `creating`. Raises sqlite3.IntegrityError if the name is in use."""
        statement = f"""
            INSERT INTO volumes ({_VOLUME}, state, owner) VALUES (?, ?, ?, ?, ?, 'creating', ?)"""
        row = volume._replace(labels=json.dumps(volume.labels))  # type: ignore[arg-type]
        self._rows(statement, *row, owner)

    def ready_volume(self, id: str) -> None:
        self._rows("UPDATE volumes SET state = 'ready', owner = NULL WHERE id = ?", id)

    def doom_volume(self, id: str, owner: int, beside: str | None = None) -> bool:
        """State `removing`, if it is there and no container has it attached but that one.

        What nobody has attached must not be being filled, either.
        """
        self._removing()
        statement = """
            UPDATE volumes SET state = 'removing', owner = ?2 WHERE id = ?1 AND state = 'ready'
            AND (owner IS NULL OR ?3 IS NOT NULL)
            AND NOT EXISTS
                (SELECT 1 FROM attached WHERE volume = ?1 AND container IS NOT ?3)"""
        self._rows(statement, id, owner, beside)
        return self._changed()

    def data_volumes(self) -> list[DataVolume]:
        """Every data volume, in order of their names."""
        statement = f"SELECT {_VOLUME} FROM volumes WHERE state = 'ready' ORDER BY name"
        return [_volume(row) for row in self._rows(statement)]

    def data_volume(self, id: str) -> DataVolume | None:
        statement = f"SELECT {_VOLUME} FROM volumes WHERE id = ? AND state = 'ready'"
        rows = self._rows(statement, id)
        return _volume(rows[0]) if rows else None

    def volume_named(self, name: str) -> DataVolume | None:
        statement = f"SELECT {_VOLUME} FROM volumes WHERE name = ? AND state = 'ready'"
        rows = self._rows(statement, name)
        return _volume(rows[0]) if rows else None

    def volume_state(self, name: str) -> tuple[str, int | None] | None:
        """State and owner of the volume that has the name, whatever becomes of it."""
        rows = self._rows("SELECT state, owner FROM volumes WHERE name = ?", name)
        return tuple(rows[0]) if rows else None

    def volume_by_prefix(self, prefix: str) -> DataVolume | None:
        """The one anonymous volume whose id begins with the hex digits. Raises Ambiguous."""
        statement = f"""
            SELECT {_VOLUME} FROM volumes
            WHERE id >= ?1 AND id < ?1 || 'g' AND anonymous AND state = 'ready' LIMIT 6"""
        found = [_volume(row) for row in self._rows(statement, prefix)]
        if len(found) > 1:
            listed = ", ".join(volume.id[:12] for volume in found[:5])
            more = " and more" if len(found) > 5 else ""
            raise Ambiguous(f"{prefix} matches several volumes: {listed}{more}; give more digits")
        return found[0] if found else None

    # What containers have attached

    def attach(self, container: str, target: str, volume: str) -> bool:
        """Whether the volume is there to be attached.

        Raises sqlite3.IntegrityError if the container is gone, or has another at the target.
        """
        statement = """
            INSERT INTO attached SELECT ?1, ?2, ?3
            WHERE EXISTS (SELECT 1 FROM volumes WHERE id = ?3 AND state != 'removing')"""
        self._rows(statement, container, target, volume)
        return self._changed()

    def attached(self, container: str) -> list[Attached]:
        """What the container has attached, in order of the targets."""
        statement = f"""
            SELECT target, state, owner, {_VOLUME}
            FROM attached JOIN volumes ON id = volume WHERE container = ? ORDER BY target"""
        return [
            Attached(target, _volume(row), state, owner)
            for target, state, owner, *row in self._rows(statement, container)
        ]

    def all_attached(self) -> dict[str, list[DataVolume]]:
        """Container id -> its data volumes, in order of the targets."""
        statement = f"""
            SELECT container, {_VOLUME} FROM attached JOIN volumes ON id = volume
            WHERE state = 'ready' ORDER BY container, target"""
        found: dict[str, list[DataVolume]] = {}
        for container, *row in self._rows(statement):
            found.setdefault(container, []).append(_volume(row))
        return found

    def containers_with(self, volume: str) -> list[str]:
        """Names of the containers that have it attached, those that come and go included."""
        statement = """
            SELECT DISTINCT name FROM attached JOIN containers ON id = container
            WHERE volume = ? ORDER BY name"""
        return [row[0] for row in self._rows(statement, volume)]

    # Filling

    def filling(self, id: str) -> tuple[bool, int | None] | None:
        """Whether it was filled, and who is filling it; None if it is not there."""
        rows = self._rows("SELECT filled, owner FROM volumes WHERE id = ? AND state = 'ready'", id)
        return (bool(rows[0][0]), rows[0][1]) if rows else None

    def begin_filling(self, id: str, before: int | None, owner: int) -> bool:
        """Have a volume that was never filled; False unless `before` (None: nobody) has it."""
        statement = """
            UPDATE volumes SET owner = ?
            WHERE id = ? AND state = 'ready' AND NOT filled AND owner IS ?"""
        self._rows(statement, owner, id, before)
        return self._changed()

    def end_filling(self, id: str, filled: bool) -> None:
        """Let it go, filled or as empty as it was."""
        statement = "UPDATE volumes SET owner = NULL, filled = ? WHERE id = ? AND state = 'ready'"
        self._rows(statement, int(filled), id)


def _volume(row: Any) -> DataVolume:
    id, name, anonymous, created, labels = row
    return DataVolume(id, name, bool(anonymous), created, json.loads(labels))
