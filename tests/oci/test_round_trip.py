"""A tree goes into an archive and out again, and GNU tar agrees on what is in between."""

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.tree import erase
from tests.conftest import require
from tests.oci.archives import apply, gnu_tar, make
from tests.trees import entries, fill


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


@pytest.fixture
def rootfs(tmp_path):
    """The archive of a root filesystem: a real one, or one of everything as GNU tar packs it."""
    given_one = os.environ.get("COWSHED_TEST_ROOTFS")
    if given_one:
        return Path(given_one)
    (tmp_path / "source").mkdir()
    fill(tmp_path / "source")
    archive = tmp_path / "rootfs.tar"
    gnu_tar(
        "-C", tmp_path / "source", "--format=posix", "--xattrs", "--xattrs-include=*",
        "-cf", archive, ".",
    )  # fmt: skip
    return archive


def listing(archive):
    """The names that GNU tar sees, but for the root's."""
    names = [line.removeprefix(b"./") for line in gnu_tar("-tf", archive).splitlines()]
    return sorted(filter(None, names))


def test_a_root_filesystem_is_the_same_in_gnu_tars_eyes(rootfs, tmp_path):
    tree, theirs = tmp_path / "tree", tmp_path / "theirs"
    apply(rootfs, tree)
    theirs.mkdir()
    gnu_tar("-C", theirs, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", rootfs)
    seen, expected = entries(tree), entries(theirs)
    if "COWSHED_TEST_ROOTFS" in os.environ:
        # GNU tar leaves a root without an entry of its own as the time of unpacking has it.
        del seen[b""], expected[b""]
    assert seen == expected
    archive = make(tree)
    (tmp_path / "exported.tar").write_bytes(archive)
    apply(archive, tmp_path / "again")
    assert entries(tmp_path / "again") == entries(tree)
    again = tmp_path / "theirs again"
    again.mkdir()
    gnu_tar(
        "-C", again, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", "-", data=archive
    )
    assert entries(again) == entries(tree)


def test_gnu_tar_lists_the_same_names_in_the_export_and_the_import(rootfs, tmp_path):
    apply(rootfs, tmp_path / "tree")
    (tmp_path / "out.tar").write_bytes(make(tmp_path / "tree"))
    assert listing(tmp_path / "out.tar") == listing(rootfs)


names = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
times = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
owners = st.integers(0, 2**32 - 2)
modes = st.integers(0, 0o7777)
files = st.tuples(st.just("file"), st.binary(max_size=2000), modes)
others = st.one_of(
    st.tuples(st.just("link"), names, modes),
    st.tuples(st.just("fifo"), st.just(b""), modes),
    st.tuples(st.just("device"), st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)), modes),
    st.tuples(st.just("hard"), st.integers(0, 100), modes),
)
trees = st.recursive(
    st.dictionaries(names, files | others, max_size=4),
    lambda inner: st.dictionaries(names, files | others | inner, max_size=4),
    max_leaves=12,
)


def build(top, tree, chosen, made):
    """Make a tree as drawn; what has no names yet to link to is left out."""
    for name, what in tree.items():
        path = top + b"/" + name
        if isinstance(what, dict):
            os.mkdir(path)
            build(path, what, chosen, made)
            made.append((path, chosen(modes) | 0o700))
            continue
        kind, value, mode = what
        if kind == "file":
            Path(os.fsdecode(path)).write_bytes(value)
        elif kind == "link":
            os.symlink(value, path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            os.mknod(path, stat.S_IFCHR, os.makedev(*value))
        else:
            files = [path for path, _ in made if not os.path.isdir(path) or os.path.islink(path)]
            if not files:
                continue
            os.link(files[value % len(files)], path, follow_symlinks=False)
        made.append((path, mode))


@settings(max_examples=60, deadline=None)
@given(tree=trees, data=st.data())
def test_any_small_tree_comes_back_as_it_was(tree, data):
    with tempfile.TemporaryDirectory() as scratch:
        top = os.fsencode(scratch) + b"/tree"
        os.mkdir(top)
        made = [(top, 0o755)]
        build(top, tree, data.draw, made)
        for path, mode in reversed(made):
            os.chown(path, data.draw(owners), data.draw(owners), follow_symlinks=False)
            if not os.path.islink(path):
                os.chmod(path, mode)
                if data.draw(st.booleans()):
                    value = data.draw(st.binary(max_size=300))
                    os.setxattr(path, b"trusted.=%" + data.draw(names), value)
        for path, _ in reversed(made):
            time = data.draw(times)
            os.utime(path, ns=(time, time), follow_symlinks=False)
        archive = make(os.fsdecode(top))
        again = os.path.join(scratch, "again")
        apply(archive, again)
        assert entries(again) == entries(os.fsdecode(top))
        assert make(again) == archive
        gnu = os.path.join(scratch, "gnu")
        os.mkdir(gnu)
        gnu_tar(
            "-C",
            gnu,
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "-xpf",
            "-",
            data=archive,
        )
        assert entries(gnu) == entries(os.fsdecode(top))
        erase(again)
