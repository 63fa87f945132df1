"""The database's schema, as the list of migrations that make it.

`PRAGMA user_version` counts the migrations that a database has had. A row's state tells how
far the disk has followed it: `creating` and `removing` rows are invisible to every listing, and
carry the token of the process that works on them. A `ready` layer that carries one is held by a
process that is about to make an image of it, and a `ready` volume by one that is filling it.
"""

import sqlite3
import time

from imagegraph.errors import NewerStore

PATIENCE = 60
"""Seconds to wait for another process's transaction; each lasts milliseconds."""

MIGRATIONS = (
    """
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE layers (
        id TEXT PRIMARY KEY,
        parent TEXT REFERENCES layers (id),
        state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing')),
        owner INTEGER,
        created INTEGER NOT NULL,
        size INTEGER,
        diff_id TEXT,
        chain_id TEXT UNIQUE
    ) WITHOUT ROWID;
    CREATE INDEX layers_parent ON layers (parent);
    CREATE INDEX layers_undone ON layers (state) WHERE state != 'ready';
    CREATE TABLE images (
        id TEXT PRIMARY KEY,
        layer TEXT NOT NULL REFERENCES layers (id),
        parent TEXT REFERENCES images (id) ON DELETE SET NULL,
        created INTEGER NOT NULL,
        config BLOB NOT NULL,
        digest TEXT UNIQUE,
        format TEXT NOT NULL DEFAULT 'docker' CHECK (format IN ('docker', 'oci'))
    ) WITHOUT ROWID;
    CREATE INDEX images_layer ON images (layer);
    CREATE INDEX images_parent ON images (parent);
    CREATE TABLE tags (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        image TEXT NOT NULL REFERENCES images (id),
        PRIMARY KEY (repository, tag)
    ) WITHOUT ROWID;
    CREATE INDEX tags_image ON tags (image);
    CREATE TABLE former_names (
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        PRIMARY KEY (image, name)
    ) WITHOUT ROWID;
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image TEXT NOT NULL REFERENCES images (id),
        state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing')),
        owner INTEGER,
        created INTEGER NOT NULL,
        size INTEGER,
        options TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX containers_image ON containers (image);
    CREATE INDEX containers_undone ON containers (state) WHERE state != 'ready';
    CREATE TABLE removed (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL);
    """,
    """
    CREATE TABLE blobs (
        layer TEXT NOT NULL REFERENCES layers (id) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        size INTEGER NOT NULL,
        compression TEXT NOT NULL,
        compressor TEXT NOT NULL,
        PRIMARY KEY (layer, digest)
    ) WITHOUT ROWID;
    CREATE INDEX layers_held ON layers (owner) WHERE owner IS NOT NULL;
    """,
    """
    CREATE TABLE manifests (
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        document BLOB,
        PRIMARY KEY (image, repository, digest)
    ) WITHOUT ROWID;
    CREATE INDEX manifests_digest ON manifests (digest);
    CREATE TABLE places (
        layer TEXT NOT NULL REFERENCES layers (id) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        repository TEXT NOT NULL,
        PRIMARY KEY (layer, digest, repository)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE mount_points (
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('directory', 'file', 'temporary')),
        PRIMARY KEY (container, path)
    ) WITHOUT ROWID;
    CREATE TABLE volumes (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        anonymous INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing')),
        owner INTEGER,
        created INTEGER NOT NULL,
        labels TEXT NOT NULL,
        filled INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX volumes_undone ON volumes (state) WHERE state != 'ready';
    CREATE TABLE attached (
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
        target TEXT NOT NULL,
        volume TEXT NOT NULL REFERENCES volumes (id),
        PRIMARY KEY (container, target)
    ) WITHOUT ROWID;
    CREATE INDEX attached_volume ON attached (volume);
    """,
)


def migrate(database: sqlite3.Connection, path: str) -> None:
    """Bring the database up to date in one transaction. Raises NewerStore, sqlite3.Error."""
    version = _version(database)
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS):
        raise NewerStore(
            f"{path} was made by a newer version of cowshed (schema {version}, this one knows"
            f" {len(MIGRATIONS)}): update cowshed"
        )
    _write_ahead(database)
    database.execute("BEGIN IMMEDIATE")
    try:
        for script in MIGRATIONS[_version(database) :]:
            for statement in script.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


def _write_ahead(database: sqlite3.Connection) -> None:
    """Switch to WAL, for which SQLite does not wait while others open the same new file."""
    for patience in range(PATIENCE * 100, -1, -1):
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or not patience:
                raise
        time.sleep(0.01)


def _version(database: sqlite3.Connection) -> int:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    assert isinstance(version, int)
    return version
