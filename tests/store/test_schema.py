"""The schema: what was released is never changed, and each change is one more migration."""

import sqlite3
from pathlib import Path

from imagegraph.schema import MIGRATIONS, migrate


def test_a_new_database_has_had_all_migrations(tmp_path: Path) -> None:
    path = str(tmp_path / "graph.sqlite3")
    database = sqlite3.connect(path, isolation_level=None)
    migrate(database, path)
    assert len(MIGRATIONS) == 4
    assert database.execute("PRAGMA user_version").fetchone() == (4,)
    database.close()
