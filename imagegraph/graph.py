"""The forest, the tags and the containers, in SQLite: questions and single-row changes.

The graph is the source of truth and the disk follows it. Nothing here touches a volume. What is
not `ready` is answered to nobody but `undone`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from imagegraph.errors import Ambiguous
from imagegraph.model import Blob, Container, Image, Layer, Manifest
from imagegraph.mount_point_rows import MountPointRows
from imagegraph.reference import Reference, in_repository
from imagegraph.volume_rows import VolumeRows

REMEMBERED = 10_000
"""Removed ids that are kept: more than go between two commits of a filesystem."""

_LAYER = "id, parent, created, size, diff_id, chain_id"
_IMAGE = "id, layer, parent, created, config, digest"
_LET_GO = ", parent = NULL, chain_id = NULL"
_CONTAINER = "id, name, image, created, size, options"


class Graph(MountPointRows, VolumeRows):
    """What a store's database says."""

    # Layers

    def add_layer(
        self,
        id: str,
        parent: str | None,
        created: int,
        owner: int,
        *,
        diff_id: str | None = None,
        chain_id: str | None = None,
    ) -> bool:
        """A row in state `creating`, which `ready_layer` completes; False if the parent is gone.

        Raises sqlite3.IntegrityError if another layer has that chain ID.
        """
        statement = """
            INSERT INTO layers (id, parent, created, state, owner, diff_id, chain_id)
            SELECT ?1, ?2, ?3, 'creating', ?4, ?5, ?6 WHERE ?2 IS NULL
                OR EXISTS (SELECT 1 FROM layers WHERE id = ?2 AND state = 'ready')"""
        self._rows(statement, id, parent, created, owner, diff_id, chain_id)
        return self._changed()

    def ready_layer(self, id: str, size: int | None, owner: int | None = None) -> None:
        """The layer is whole; with an `owner` nobody else counts on it until `release`."""
        statement = "UPDATE layers SET state = 'ready', owner = ?, size = ? WHERE id = ?"
        self._rows(statement, owner, size, id)

    def release(self, layers: Iterable[str]) -> None:
        """The layers are no longer held by the process that made them."""
        for id in layers:
            self._rows("UPDATE layers SET owner = NULL WHERE id = ? AND state = 'ready'", id)

    def inherit(self, id: str, dead: int | None, heir: int) -> bool:
        """Have a layer that is ready held by the heir; False if the dead one does not hold it."""
        statement = "UPDATE layers SET owner = ? WHERE id = ? AND state = 'ready' AND owner = ?"
        self._rows(statement, heir, id, dead)
        return self._changed()

    def layer_with_chain(self, chain_id: str) -> tuple[str, str, int | None] | None:
        """Id, state and owner of the layer that has the chain ID, or will have it."""
        rows = self._rows("SELECT id, state, owner FROM layers WHERE chain_id = ?", chain_id)
        return tuple(rows[0]) if rows else None

    def identify_layer(self, id: str, diff_id: str, chain_id: str) -> None:
        """Keep the digests of a layer; the chain ID only if no other layer has it."""
        self._rows("UPDATE layers SET diff_id = ? WHERE id = ?", diff_id, id)
        self._rows("UPDATE OR IGNORE layers SET chain_id = ? WHERE id = ?", chain_id, id)

    def add_blob(self, layer: str, blob: Blob) -> bool:
        """Whether the layer is still there for all to see."""
        statement = """
            INSERT OR REPLACE INTO blobs SELECT ?1, ?2, ?3, ?4, ?5
            WHERE EXISTS (SELECT 1 FROM layers WHERE id = ?1 AND state = 'ready')"""
        self._rows(statement, layer, *blob)
        return self._changed()

    def blobs(self, layer: str) -> list[Blob]:
        """The forms in which the layer's tar is known."""
        statement = """
            SELECT digest, size, compression, compressor FROM blobs
            WHERE layer = ? ORDER BY digest"""
        return [Blob(*row) for row in self._rows(statement, layer)]

    def add_place(self, layer: str, digest: str, repository: str) -> None:
        """A repository has this form of the layer's tar; nothing if the layer is gone."""
        statement = """
            INSERT OR IGNORE INTO places SELECT ?1, ?2, ?3
            WHERE EXISTS (SELECT 1 FROM layers WHERE id = ?1)"""
        self._rows(statement, layer, digest, repository)

    def places(self, digest: str) -> list[str]:
        """The repositories that had this form of a layer's tar, in order."""
        statement = "SELECT DISTINCT repository FROM places WHERE digest = ? ORDER BY repository"
        return [row[0] for row in self._rows(statement, digest)]

    def doom_layer(self, id: str, owner: int | None) -> None:
        """State `removing`; it holds what it stood on, and its chain ID, no longer.

        No owner: `reap` ends it.
        """
        self._removing()
        statement = f"UPDATE layers SET state = 'removing', owner = ?{_LET_GO} WHERE id = ?"
        self._rows(statement, owner, id)

    def set_layer_size(self, id: str, size: int) -> None:
        self._rows("UPDATE layers SET size = ? WHERE id = ? AND size IS NULL", size, id)

    def layers(self) -> list[Layer]:
        return [
            Layer(*row) for row in self._rows(f"SELECT {_LAYER} FROM layers WHERE state = 'ready'")
        ]

    def chain(self, layer: str) -> list[Layer]:
        """The layer and all below it, the layer itself first."""
        statement = f"""
            WITH RECURSIVE chain (depth, {_LAYER}) AS (
                SELECT 0, {_LAYER} FROM layers WHERE id = ?
                UNION ALL
                SELECT chain.depth + 1, layers.id, layers.parent, layers.created, layers.size,
                    layers.diff_id, layers.chain_id
                FROM chain JOIN layers ON layers.id = chain.parent)
            SELECT {_LAYER} FROM chain ORDER BY depth"""
        return [Layer(*row) for row in self._rows(statement, layer)]

    def layer_is_needed(self, id: str) -> bool:
        """Whether an image has the layer on top, or another layer stands on it (in any state)."""
        statement = """
            SELECT EXISTS (SELECT 1 FROM images WHERE layer = ?1)
                OR EXISTS (SELECT 1 FROM layers WHERE parent = ?1 AND state != 'removing')"""
        return bool(self._rows(statement, id)[0][0])

    # Images

    def add_image(self, image: Image, form: str) -> None:
        statement = f"INSERT INTO images ({_IMAGE}, format) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._rows(statement, *image, form)

    def drop_image(self, id: str) -> None:
        self._removing()
        self._rows("DELETE FROM images WHERE id = ?", id)

    def images(self) -> list[Image]:
        """Every image, the newest first."""
        rows = self._rows(f"SELECT {_IMAGE} FROM images ORDER BY created DESC, id")
        return [Image(*row) for row in rows]

    def image(self, id: str) -> Image | None:
        rows = self._rows(f"SELECT {_IMAGE} FROM images WHERE id = ?", id)
        return Image(*rows[0]) if rows else None

    def inner_configs(self, ids: Iterable[str]) -> dict[str, str]:
        """Image id -> the `config` object of its document as JSON text, where there is one."""
        statement = """
            SELECT id, json_extract(CAST(config AS TEXT), '$.config') FROM images
            WHERE id IN (SELECT value FROM json_each(?))"""
        return {id: text for id, text in self._rows(statement, json.dumps(list(ids))) if text}

    def identify_image(self, id: str, config: bytes, digest: str) -> None:
        """Keep the document that has the digest, unless another image has that."""
        statement = "UPDATE OR IGNORE images SET config = ?, digest = ? WHERE id = ?"
        self._rows(statement, config, digest, id)

    def image_with_digest(self, digest: str) -> Image | None:
        """The image whose config has the digest."""
        rows = self._rows(f"SELECT {_IMAGE} FROM images WHERE digest = ?", digest)
        return Image(*rows[0]) if rows else None

    def image_format(self, id: str) -> str:
        form = self._rows("SELECT format FROM images WHERE id = ?", id)[0][0]
        assert isinstance(form, str)
        return form

    def images_on(self, layer: str) -> list[Image]:
        """The images that have the layer on top, the oldest first."""
        statement = f"SELECT {_IMAGE} FROM images WHERE layer = ? ORDER BY created, id"
        return [Image(*row) for row in self._rows(statement, layer)]

    def image_by_prefix(self, prefix: str) -> Image | None:
        """The one image whose id or config digest begins with the digits. Raises Ambiguous."""
        statement = f"""
            SELECT {_IMAGE} FROM images WHERE id >= ?1 AND id < ?1 || 'g'
            UNION SELECT {_IMAGE} FROM images
            WHERE digest >= 'sha256:' || ?1 AND digest < 'sha256:' || ?1 || 'g' LIMIT 6"""
        found = [Image(*row) for row in self._rows(statement, prefix)]
        _refuse_ambiguity(prefix, "images", [image.id[:12] for image in found])
        return found[0] if found else None

    def image_with_tag(self, repository: str, tag: str) -> Image | None:
        statement = f"""
            SELECT {_IMAGE} FROM images WHERE id =
                (SELECT image FROM tags WHERE repository = ? AND tag = ?)"""
        rows = self._rows(statement, repository, tag)
        return Image(*rows[0]) if rows else None

    def children(self, image: str) -> list[str]:
        """Ids of the images that were committed from this one."""
        return [row[0] for row in self._rows("SELECT id FROM images WHERE parent = ?", image)]

    def parents(self) -> set[str]:
        """Ids of all images that others were committed from."""
        statement = "SELECT DISTINCT parent FROM images WHERE parent IS NOT NULL"
        return {row[0] for row in self._rows(statement)}

    # What registries call images

    def add_manifest(self, image: str, manifest: Manifest) -> None:
        """A repository calls the image so; nothing if the image is gone."""
        statement = """
            INSERT OR REPLACE INTO manifests SELECT ?1, ?2, ?3, ?4, ?5
            WHERE EXISTS (SELECT 1 FROM images WHERE id = ?1)"""
        self._rows(statement, image, *manifest)

    def manifests(self, image: str) -> list[Manifest]:
        statement = """
            SELECT repository, digest, media_type, document FROM manifests
            WHERE image = ? ORDER BY repository, digest"""
        return [Manifest(*row) for row in self._rows(statement, image)]

    def repository_digests(self) -> dict[tuple[str, str], str]:
        """(image, repository) -> the digest that the repository gave for it, the index's if any."""
        statement = """
            SELECT image, repository, digest FROM manifests ORDER BY document IS NULL, digest"""
        return {(image, repository): digest for image, repository, digest in self._rows(statement)}

    def image_with_manifest(self, repository: str, digest: str) -> Image | None:
        """The image that a repository knows, or knew, by the digest."""
        statement = f"""
            SELECT {_IMAGE} FROM images WHERE id =
                (SELECT image FROM manifests WHERE digest = ? AND repository = ?)"""
        rows = self._rows(statement, digest, repository)
        return Image(*rows[0]) if rows else None

    # Tags

    def tags(self, image: str) -> list[Reference]:
        statement = "SELECT repository, tag FROM tags WHERE image = ? ORDER BY repository, tag"
        return [_reference(*row) for row in self._rows(statement, image)]

    def all_tags(self) -> dict[str, list[Reference]]:
        """Image id -> its tags, in order."""
        found: dict[str, list[Reference]] = {}
        statement = "SELECT image, repository, tag FROM tags ORDER BY repository, tag"
        for image, repository, tag in self._rows(statement):
            found.setdefault(image, []).append(_reference(repository, tag))
        return found

    def set_tag(self, reference: Reference, image: str) -> None:
        """Point the tag (by default `latest`) to the image, wherever it pointed before."""
        reference = reference.with_default_tag()
        key = (reference.repository, reference.tag)
        self._rows("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", *key, image)
        self._rows("INSERT OR IGNORE INTO former_names VALUES (?, ?)", image, str(reference))

    def drop_tag(self, reference: Reference) -> None:
        self._removing()
        key = (reference.repository, reference.tag)
        self._rows("DELETE FROM tags WHERE repository = ? AND tag = ?", *key)

    def former_names(self, image: str) -> list[str]:
        """Every name that the image ever had."""
        statement = "SELECT name FROM former_names WHERE image = ? ORDER BY name"
        return [row[0] for row in self._rows(statement, image)]

    # Containers

    def add_container(self, container: Container, owner: int) -> None:
        """A row in state `creating`. Raises sqlite3.IntegrityError if the name is in use."""
        statement = (
            f"INSERT INTO containers ({_CONTAINER}, state, owner) VALUES (?,?,?,?,?,?,'creating',?)"
        )
        row = container._replace(options=json.dumps(container.options))  # type: ignore[arg-type]
        self._rows(statement, *row, owner)

    def ready_container(self, id: str) -> None:
        self._rows("UPDATE containers SET state = 'ready', owner = NULL WHERE id = ?", id)

    def doom_container(self, id: str, owner: int) -> bool:
        """State `removing`, if the container is still there for all to see."""
        self._removing()
        statement = (
            "UPDATE containers SET state = 'removing', owner = ? WHERE id = ? AND state = 'ready'"
        )
        self._rows(statement, owner, id)
        return self._changed()

    def rename_container(self, id: str, name: str) -> bool:
        """Whether the container is still there. Raises sqlite3.IntegrityError for a taken name."""
        self._rows("UPDATE containers SET name = ? WHERE id = ? AND state = 'ready'", name, id)
        return self._changed()

    def name_is_taken(self, name: str) -> bool:
        """Whether a container has the name, those that come and go included."""
        return bool(self._rows("SELECT 1 FROM containers WHERE name = ?", name))

    def containers(self) -> list[Container]:
        """Every container, the newest first."""
        statement = (
            f"SELECT {_CONTAINER} FROM containers WHERE state = 'ready' ORDER BY created DESC, id"
        )
        return [_container(row) for row in self._rows(statement)]

    def containers_of(self, image: str) -> list[Container]:
        """Containers cloned directly from the image, those that come and go included."""
        statement = f"SELECT {_CONTAINER} FROM containers WHERE image = ?"
        return [_container(row) for row in self._rows(statement, image)]

    def container_counts(self) -> dict[str, int]:
        """Image id -> how many containers are cloned directly from it."""
        return dict(self._rows("SELECT image, count(*) FROM containers GROUP BY image"))

    def container_named(self, name: str) -> Container | None:
        statement = f"SELECT {_CONTAINER} FROM containers WHERE name = ? AND state = 'ready'"
        rows = self._rows(statement, name)
        return _container(rows[0]) if rows else None

    def container_by_prefix(self, prefix: str) -> Container | None:
        """The one container whose id begins with the hex digits. Raises Ambiguous."""
        statement = f"""
            SELECT {_CONTAINER} FROM containers
            WHERE id >= ?1 AND id < ?1 || 'g' AND state = 'ready' LIMIT 6"""
        found = [_container(row) for row in self._rows(statement, prefix)]
        listed = [f"{container.id[:12]} ({container.name})" for container in found]
        _refuse_ambiguity(prefix, "containers", listed)
        return found[0] if found else None

    # What a crash left

    def undone(self) -> list[tuple[str, str, str, int | None]]:
        """(table, id, state, owner) of what is not ready, or held; newest first in each table."""
        statement = """
            SELECT 'containers', id, state, owner, created FROM containers WHERE state != 'ready'
            UNION ALL SELECT 'layers', id, state, owner, created FROM layers
                WHERE state != 'ready' OR owner IS NOT NULL
            UNION ALL SELECT 'volumes', id, state, owner, created FROM volumes
                WHERE state != 'ready' OR owner IS NOT NULL
            ORDER BY 1, 5 DESC"""
        return [tuple(row[:4]) for row in self._rows(statement)]

    def claim(self, table: str, id: str, owner: int | None, heir: int | None) -> bool:
        """Make a row that dead `owner` left `removing` and the `heir`'s (None: whoever comes).

        False if it is not what it was: its owner finished it before its end, or another has it.
        """
        self._removing()
        let_go = _LET_GO if table == "layers" else ""
        statement = f"""
            UPDATE {table} SET state = 'removing', owner = ?{let_go}
            WHERE id = ? AND (state != 'ready' OR owner IS NOT NULL) AND owner IS ?"""
        self._rows(statement, heir, id, owner)
        return self._changed()

    def drop(self, table: str, id: str) -> None:
        """Delete the row of a volume's table; `removed` knows the id for a while."""
        self._removing()
        if table == "volumes":
            self._rows("DELETE FROM attached WHERE volume = ?", id)
        self._rows(f"DELETE FROM {table} WHERE id = ?", id)
        self._rows("INSERT INTO removed (id) VALUES (?)", id)
        self._rows("DELETE FROM removed WHERE number <= last_insert_rowid() - ?", REMEMBERED)

    def removed(self) -> set[str]:
        """Ids of the layers, containers and data volumes that were removed last."""
        return {row[0] for row in self._rows("SELECT id FROM removed")}

    def known(self, table: str, ids: Sequence[str] | None = None) -> dict[str, str]:
        """id -> state of the rows of a volume's table, all of them or those asked for."""
        if ids is None:
            return dict(self._rows(f"SELECT id, state FROM {table}"))
        statement = f"SELECT id, state FROM {table} WHERE id = ?"
        return dict(row for id in ids for row in self._rows(statement, id))


def _reference(repository: str, tag: str) -> Reference:
    return in_repository(repository)._replace(tag=tag)


def _container(row: Any) -> Container:
    id, name, image, created, size, options = row
    return Container(id, name, image, created, size, json.loads(options))


def _refuse_ambiguity(prefix: str, what: str, found: list[str]) -> None:
    if len(found) > 1:
        more = " and more" if len(found) > 5 else ""
        raise Ambiguous(
            f"{prefix} matches several {what}: {', '.join(found[:5])}{more}; give more digits"
        )
