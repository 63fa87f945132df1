"""What a layer made from changes becomes under those who apply layers: the newer tree, exactly."""

import hashlib
import io
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from backends.changes import walk
from backends.copy import copy_tree
from oci import layer, tarsplit
from tests.conftest import require
from tests.edits import EDIT, MAKING, Script, make, perform
from tests.oci.archives import gnu_tar
from tests.oci.changesets import (
    Trees,
    apply_slowly,
    edit,
    layer_of,
    make_two,
    replayed,
    without_sockets,
)
from tests.trees import Entry, entries

Applier = Callable[[bytes, Path], None]


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return make_two(tmp_path)


def apply_quickly(archive: bytes, tree: Path) -> None:
    """What oci.layer makes of it, which must keep the archive too: it is its own record's."""
    with tempfile.TemporaryFile() as record:
        applied = layer.apply_layer(io.BytesIO(archive), str(tree), split=record.fileno())
        record.seek(0)
        out: list[bytes] = []
        tarsplit.rebuild(record, str(tree), lambda piece: out.append(bytes(piece)))
    assert b"".join(out) == archive
    assert applied.faithful


def rebuilt(
    before: Path, archive: bytes, directory: Path, applier: Applier = apply_slowly
) -> dict[bytes, Entry]:
    """The tree that the layer makes of a copy of `before`, but for sockets."""
    directory.mkdir()
    copy_tree(str(before), str(directory))
    applier(archive, directory)
    return without_sockets(entries(directory))


@pytest.mark.parametrize("applier", [apply_slowly, apply_quickly])
def test_a_layer_on_its_base_gives_the_newer_tree_and_one_the_way_back(
    trees: Trees, tmp_path: Path, applier: Applier
) -> None:
    before, after = trees
    edit(after)
    forth = rebuilt(before, layer_of(before, after), tmp_path / "forth", applier)
    assert forth == without_sockets(entries(after))
    back = rebuilt(after, layer_of(after, before), tmp_path / "back", applier)
    assert back == without_sockets(entries(before))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(MAKING, EDIT)
def test_any_edit_becomes_an_exact_layer(making: Script, edit: Script) -> None:
    require("root")
    with tempfile.TemporaryDirectory() as directory:
        before, after = Path(directory, "before"), Path(directory, "after")
        after.mkdir()
        make(before)
        perform(before, making)
        copy_tree(str(before), str(after))
        perform(after, edit)
        for old, new, way in (before, after, "forth"), (after, before, "back"):
            archive, expected = layer_of(old, new), without_sockets(entries(new))
            assert replayed(old, new) == archive
            for applier in (apply_slowly, apply_quickly):
                place = Path(directory, f"{way} {applier.__name__}")
                assert rebuilt(old, archive, place, applier) == expected


def test_directories_that_did_not_change_are_told_for_who_unpacks_without_the_base(
    trees: Trees, tmp_path: Path
) -> None:
    """overlay2 unpacks a layer where nothing is, and hides what the lower layers say of these."""
    before, after = trees
    status = (after / "home/user").stat()
    (after / "home/user/a").write_text("x")
    os.utime(after / "home/user", ns=(0, status.st_mtime_ns))
    assert [change.path for change in walk(str(before), str(after))] == [b"home/user/a"]
    (tmp_path / "alone").mkdir()
    apply_slowly(layer_of(before, after), tmp_path / "alone")
    expected = entries(after)
    for path, entry in entries(tmp_path / "alone").items():
        assert entry == expected[path]


def test_gnu_tar_unpacks_a_layer_without_deletions_over_its_base(trees: Trees) -> None:
    before, after = trees
    (after / "etc/new/er").mkdir(parents=True)
    (after / "etc/new/er/file").write_bytes(b"x" * 5000)
    os.link(after / "etc/passwd", after / "etc/new/passwd")
    os.chown(after / "bin/sh", 3_000_000, 1)
    archive = layer_of(before, after)
    gnu_tar(
        "-C", before, "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*",
        "-xpf", "-", data=archive,
    )  # fmt: skip
    assert without_sockets(entries(before)) == without_sockets(entries(after))


def test_umoci_unpacks_a_base_and_its_layer_to_the_newer_tree(trees: Trees, tmp_path: Path) -> None:
    require("umoci")
    before, after = trees
    edit(after)
    write_layout(tmp_path / "layout", layer_of(None, before), layer_of(before, after))
    bundle = tmp_path / "bundle"
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path}/layout:latest", bundle],
        check=True,
        capture_output=True,
    )
    assert without_sockets(entries(bundle / "rootfs")) == without_sockets(entries(after))


def write_layout(directory: Path, *layers: bytes) -> None:
    """An OCI layout (image-spec, image-layout.md) of one image, called latest."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(kind: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    described = [add("layer.v1.tar", each) for each in layers]
    diff_ids = [each["digest"] for each in described]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add("config.v1+json", json.dumps(config).encode()),
        "layers": described,
    }
    pointer = add("manifest.v1+json", json.dumps(manifest).encode())
    pointer["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [pointer]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
