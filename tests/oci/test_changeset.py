"""Layers made from changes: what stands in them and in what order, or one line says why not."""

import hashlib
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.changes import ADDED, DELETED, MODIFIED, Change, ChangesError, Compared, walk
from backends.copy import copy_tree
from backends.errors import BackendError
from backends.tree import TreeChanged
from oci import changeset
from oci.pack import pack
from tests.oci.archives import gnu_tar
from tests.oci.changesets import Trees, edit, layer_of, listed, make_two, replayed
from tests.trees import posix_acl

EMPTY_DIFF_ID = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""What Docker, and everybody else, has for a layer without changes."""


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return make_two(tmp_path)


def layer_from(after: Path, *changes: Change) -> bytes:
    """The layer that these changes give, true or not."""
    pieces: list[bytes] = []
    changeset.make(Compared("/nowhere", str(after), iter(changes)), pieces.append)
    return b"".join(pieces)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def test_without_a_base_it_is_the_whole_tree_as_an_archive(trees: Trees) -> None:
    pieces: list[bytes] = []
    pack(str(trees[0]), pieces.append)
    assert layer_of(None, trees[0]) == b"".join(pieces) == replayed(None, trees[0])


def test_an_empty_tree_without_a_base_has_its_root(tree: Path) -> None:
    assert listed(layer_of(None, tree)) == [(".", tarfile.DIRTYPE)]


def test_no_changes_are_the_layer_that_everybody_has_for_that(trees: Trees) -> None:
    assert hashlib.sha256(layer_of(*trees)).hexdigest() == EMPTY_DIFF_ID


def test_a_changed_root_is_all_there_is(trees: Trees) -> None:
    trees[1].chmod(0o711)
    assert listed(layer_of(*trees)) == [(".", tarfile.DIRTYPE)]


def test_entries_stand_in_byte_order_below_all_their_directories(
    tree: Path, tmp_path: Path
) -> None:
    """A directory's slash sorts behind some of what may follow its name, and counts."""
    for name in ("a", "a-", "a-b", "a.b", "a0", "b/c/d", "z"):
        (tree / name).mkdir(parents=True)
        (tree / name / "f").touch()
    before = tmp_path / "before"
    before.mkdir()
    copy_tree(str(tree), str(before))
    for name in ("a", "a-", "a-b", "a.b", "a0", "b/c/d"):
        (tree / name / "f").write_text("changed")
        (tree / name / "g").touch()
    (tree / "a!").touch()
    names = gnu_tar("-tf", "-", data=layer_of(before, tree)).splitlines()
    assert names[0] == b"./"
    assert names[1:] == sorted(names[1:])
    assert b"b/" in names and b"b/c/" in names and b"z/" not in names
    assert len(set(names)) == len(names) == 22


def test_deletions_are_whiteouts(trees: Trees) -> None:
    before, after = trees
    shutil.rmtree(after / "home")
    (after / "var/fifo").unlink()
    assert listed(layer_of(before, after)) == [
        (".", tarfile.DIRTYPE),
        (".wh.home", tarfile.REGTYPE),
        ("var", tarfile.DIRTYPE),
        ("var/.wh.fifo", tarfile.REGTYPE),
    ]


def test_an_entry_of_another_type_needs_no_whiteout(trees: Trees) -> None:
    before, after = trees
    shutil.rmtree(after / "home")
    (after / "home").touch()
    (after / "var/fifo").unlink()
    (after / "var/fifo").mkdir()
    assert listed(layer_of(before, after)) == [
        (".", tarfile.DIRTYPE),
        ("home", tarfile.REGTYPE),
        ("var", tarfile.DIRTYPE),
        ("var/fifo", tarfile.DIRTYPE),
    ]


def test_a_name_added_to_a_file_brings_its_body_and_all_its_names(trees: Trees) -> None:
    before, after = trees
    os.link(after / "bin/sh", after / "bin/dash")
    with tarfile.open(fileobj=io.BytesIO(layer_of(before, after))) as tar:
        found = [(member.name, member.type, member.linkname) for member in tar]
    assert found == [
        (".", tarfile.DIRTYPE, ""),
        ("bin", tarfile.DIRTYPE, ""),
        ("bin/bash", tarfile.REGTYPE, ""),
        ("bin/dash", tarfile.LNKTYPE, "bin/bash"),
        ("bin/sh", tarfile.LNKTYPE, "bin/bash"),
        ("var", tarfile.DIRTYPE, ""),
        ("var/another name", tarfile.LNKTYPE, "bin/bash"),
    ]


def test_sockets_are_left_out_and_reported(tree: Path) -> None:
    (tree / "d").mkdir()
    os.mknod(tree / "d/s", 0o600 | stat.S_IFSOCK)
    compared = Compared(None, str(tree), walk(None, str(tree)))
    assert changeset.make(compared, lambda piece: None) == [b"d/s"]


def test_what_a_socket_replaced_is_deleted(trees: Trees, tmp_path: Path) -> None:
    before, after = trees
    shutil.rmtree(after / "home")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(after / "home"))
    assert listed(layer_of(before, after)) == [
        (".", tarfile.DIRTYPE),
        (".wh.home", tarfile.REGTYPE),
    ]


def test_equal_trees_give_equal_layers_whatever_their_inodes(trees: Trees, tmp_path: Path) -> None:
    before, after = trees
    edit(after)
    archive = layer_of(before, after)
    others = []
    for number, source in enumerate((after, before)):
        other = tmp_path / f"other{number}"
        other.mkdir()
        (tmp_path / "in between").write_text(str(number))
        copy_tree(str(source), str(other))
        others.append(other)
    for name in reversed(os.listdir(os.fsencode(others[0]))):
        # In another place of the directory, and read at another time.
        path = os.path.join(os.fsencode(others[0]), name)
        times = os.stat(others[0]).st_mtime_ns
        os.rename(path, path + b".aside")
        os.rename(path + b".aside", path)
        os.utime(path, ns=(5, os.lstat(path).st_mtime_ns), follow_symlinks=False)
        os.utime(others[0], ns=(5, times))
    assert layer_of(others[1], others[0]) == archive


@pytest.mark.parametrize("kind", [ADDED, MODIFIED, DELETED])
@pytest.mark.parametrize("path", [b"d/.wh.x", b".wh..wh..opq", b"d/.wh./x", b".wh."])
def test_names_that_mean_a_whiteout_are_refused_by_name(tree: Path, path: bytes, kind: str) -> None:
    made = os.path.join(os.fsencode(tree), path)
    os.makedirs(os.path.dirname(made), exist_ok=True)
    open(made, "x").close()
    with pytest.raises(BackendError, match=r"\.wh\.") as caught:
        layer_from(tree, Change(path, kind))
    assert repr(os.fsdecode(path)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_only_look_like_it_are_not_refused(tree: Path) -> None:
    for name in ("x.wh.y", ".wh", ".whx"):
        (tree / name).touch()
    assert len(listed(layer_of(None, tree))) == 4


@pytest.mark.parametrize("name", ["user.a=b", "user.100%"])
def test_attributes_that_readers_would_rename_are_refused_by_path(tree: Path, name: str) -> None:
    (tree / "d").mkdir()
    os.setxattr(tree / "d", name, b"x")
    with pytest.raises(BackendError, match=f"'d/': .* extended attribute '{name}'"):
        layer_of(None, tree)


def test_more_attributes_than_readers_take_are_refused_by_path(btrfs_mount: Path) -> None:
    with tempfile.TemporaryDirectory(dir=btrfs_mount) as directory:
        crowded = Path(directory, "f")
        crowded.touch()
        for number in range(70):
            os.setxattr(crowded, f"user.{number}", bytes(15_000))
        with pytest.raises(BackendError, match=r"'f': .* more than 1000000 bytes"):
            layer_of(None, Path(directory))
        for number in range(10):
            os.removexattr(crowded, f"user.{number}")
        assert [name for name, _ in listed(layer_of(None, Path(directory)))] == [".", "f"]


def test_whatever_other_attributes_there_are_stay(trees: Trees) -> None:
    before, after = trees
    acl = posix_acl((0x01, 7, -1), (0x04, 5, -1), (0x20, 5, -1))
    kept = {"trusted.overlay.opaque": b"y", "security.selinux": b"a:b:c\0", "user.\n ": b"\0=\n"}
    for name, value in kept.items():
        os.setxattr(after / "etc", name, value)
    os.setxattr(after / "etc", "system.posix_acl_default", acl)
    with tarfile.open(fileobj=io.BytesIO(layer_of(before, after))) as tar:
        headers = tar.getmember("etc").pax_headers
    for name, value in {**kept, "system.posix_acl_default": acl}.items():
        assert os.fsencode(headers[f"SCHILY.xattr.{name}"]) == value


def test_paths_may_be_deeper_and_longer_than_any_call_takes(tree: Path, tmp_path: Path) -> None:
    here = os.open(tree, os.O_RDONLY)
    name = b"n" * 200
    for _ in range(300):
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(os.open(b"file", os.O_CREAT, dir_fd=here))
    os.close(here)
    try:
        names = gnu_tar("-tf", "-", data=layer_of(None, tree)).splitlines()
        assert names[-1] == (name + b"/") * 300 + b"file"
        assert len(names) == 302
    finally:
        subprocess.run(["rm", "-rf", tree], check=True)


def test_directories_and_files_that_became_links_are_not_followed(
    tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/f").write_text("the host's own")
    (tree / "d").symlink_to(tmp_path / "host")
    with pytest.raises(TreeChanged, match="'d' was replaced"):
        layer_from(tree, Change(b"d/f", MODIFIED))


def test_what_has_gone_is_named(tree: Path) -> None:
    with pytest.raises(TreeChanged, match=r"'gone' was replaced .* try again"):
        layer_from(tree, Change(b"gone", ADDED))


def test_a_file_that_grows_or_shrinks_under_way_is_an_error(tree: Path) -> None:
    for size in (4 << 20, 1 << 20):
        with (tree / "f").open("wb") as file:
            file.truncate(3 << 20)

        def meddle(piece: bytes, size: int = size) -> None:
            if len(piece) >= 1 << 20:
                os.truncate(tree / "f", size)

        with pytest.raises(TreeChanged, match="'f' changed its size"):
            changeset.make(Compared(None, str(tree), iter([Change(b"f", ADDED)])), meddle)


def test_what_is_wrong_with_the_changes_goes_through_as_it_is(tree: Path) -> None:
    def changes() -> Iterator[Change]:
        yield Change(b"", MODIFIED)
        raise ChangesError("they are not known")

    with pytest.raises(ChangesError, match="they are not known"):
        changeset.make(Compared("/nowhere", str(tree), changes()), lambda piece: None)
