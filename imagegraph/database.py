"""One connection to a store's database: opened, written to and closed, on a full disk too.

What is in it is graph.py's to know. No transaction is open while anything else happens: `writing`
brackets a few statements and no more.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from imagegraph import reserve
from imagegraph.errors import StoreError
from imagegraph.schema import PATIENCE, migrate

REMOVALS = 8
"""Changes of one connection for which the reserve's share of the log is enough."""


class Database:
    """One connection to a store's database."""

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        """`read_only`: the file is neither made nor migrated, and nothing can be changed."""
        self._path = path
        self._root = os.path.dirname(path)
        self._read_only = read_only
        self._drawn = False
        self._removals = 0
        self._make_room()
        while True:
            try:
                self._database = _connect(path, read_only)
                break
            except sqlite3.Error as error:
                if read_only or not _is_full(error) or not reserve.draw(self._root):
                    raise database_error(error, path) from error
                self._drawn = True
        if not read_only:
            reserve.fill(self._root)

    def _make_room(self) -> None:
        """Before SQLite writes to the file that it maps: on a full disk it may die (reserve.py)."""
        if not self._read_only and reserve.is_short(self._root):
            self._drawn = reserve.draw(self._root) or self._drawn

    def close(self) -> None:
        self._make_room()
        self._database.close()
        if self._drawn:
            # SQLite's own files are gone again, so what they took may do for the next one.
            reserve.fill(self._root, scarce=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One durable transaction: what changes within it becomes visible whole or not at all."""
        self._make_room()
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._make_room()
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise database_error(error, self._path) from error

    def _removing(self) -> None:
        """Before a change that lets something go: a full disk must not prevent it."""
        if self._removals % REMOVALS == 0:
            reserve.lengthen(f"{self._path}-wal")
        self._removals += 1

    def _rows(self, statement: str, *arguments: object) -> list[Any]:
        self._make_room()
        try:
            return self._database.execute(statement, arguments).fetchall()
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise database_error(error, self._path) from error

    def _changed(self) -> bool:
        """Whether the last statement changed a row."""
        return bool(self._rows("SELECT changes()")[0][0])

    # Settings

    def setting(self, key: str) -> str | None:
        rows = self._rows("SELECT value FROM settings WHERE key = ?", key)
        return rows[0][0] if rows else None

    def settle(self, key: str, value: str) -> None:
        """Set what is not set yet."""
        self._rows("INSERT OR IGNORE INTO settings VALUES (?, ?)", key, value)

    def faults(self) -> list[str]:
        """What SQLite itself finds wrong with the file."""
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check") if row[0] != "ok"]
        for table, _, parent, _ in self._rows("PRAGMA foreign_key_check"):
            found.append(f"a row of {table} points to nothing in {parent}")
        return found


def _connect(path: str, read_only: bool) -> sqlite3.Connection:
    source = f"file:{quote(os.fsencode(path))}?mode=ro" if read_only else path
    database = sqlite3.connect(source, uri=read_only, timeout=PATIENCE, isolation_level=None)
    try:
        if not read_only:
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA synchronous = FULL")
            migrate(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _is_full(error: sqlite3.Error) -> bool:
    """Whether SQLite may have failed for want of room; it does not always say so."""
    code = getattr(error, "sqlite_errorname", "")
    return code.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN"))


def database_error(error: sqlite3.Error, path: str) -> StoreError:
    """The one line for what SQLite answered."""
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"{path} has been locked for {PATIENCE} s by another process: try again")
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")):
        return StoreError(f"cannot write {path}: the disk is full; free space")
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")) or not os.access(
        os.path.dirname(path), os.W_OK
    ):
        return StoreError(f"cannot write {path}: check its permissions, or give another --root")
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreError(f"{path} is damaged ({error}): put a copy of it back")
    return StoreError(f"cannot use {path}: {error}")
