"""What apply makes of archives that are legal, however odd."""

import os
import socket
import stat

import pytest

from backends.tree import erase
from tests.conftest import require
from tests.oci.archives import apply, header, make, member, pax


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def test_leading_slashes_and_dots_are_stripped(tree):
    apply([member(b"/a/f", b"1"), member(b"./b//./f", b"2"), member(b"//c", b"3")], tree)
    assert (tree / "a/f").read_bytes() == b"1"
    assert (tree / "b/f").read_bytes() == b"2"
    assert (tree / "c").read_bytes() == b"3"


def test_entries_and_bytes_of_files_are_counted_once_per_inode(tree):
    applied = apply(
        [member(b"f", b"12345"), header(b"g", b"1", link=b"f"), header(b"d", b"5")], tree
    )
    assert applied == (3, 5)


def test_missing_parents_are_0755_and_roots(tree):
    apply([member(b"a/b/f", uid=7)], tree)
    for parent in ("a", "a/b"):
        status = (tree / parent).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 0, 0)


def test_missing_parents_do_not_take_after_a_setgid_directory(tree):
    (tree / "shared").mkdir()
    os.chown(tree / "shared", 0, 50)
    (tree / "shared").chmod(0o2775)
    apply([member(b"shared/new/f"), member(b"shared/g", mode=0o640)], tree)
    assert (tree / "shared/new").stat().st_gid == 0
    assert stat.S_IMODE((tree / "shared/new").stat().st_mode) == 0o755
    assert (tree / "shared/g").stat().st_gid == 0
    assert stat.S_IMODE((tree / "shared").stat().st_mode) == 0o2775


def test_of_duplicates_the_last_wins(tree):
    apply([member(b"f", b"first"), member(b"f", b"second", mode=0o600)], tree)
    assert (tree / "f").read_bytes() == b"second"


def test_a_file_over_a_directory_removes_its_tree(tree):
    apply([member(b"d/e/f"), header(b"d/e/g/", b"5"), member(b"d", b"file")], tree)
    assert (tree / "d").read_bytes() == b"file"


def test_a_directory_over_a_directory_keeps_what_is_in_it(tree):
    apply([member(b"d/f", b"kept"), header(b"d/", b"5", mode=0o700, uid=3, mtime=5)], tree)
    status = (tree / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (0o700, 3, 5)
    assert (tree / "d/f").read_bytes() == b"kept"


def test_a_directory_over_a_directory_has_the_attributes_of_the_last(tree):
    one = (b"SCHILY.xattr.user.one", b"1")
    two = (b"SCHILY.xattr.user.two", b"2")
    apply([pax(one), header(b"d/", b"5"), pax(two), header(b"d/", b"5")], tree)
    assert os.listxattr(tree / "d") == ["user.two"]


@pytest.mark.parametrize("kind", [b"0", b"2"])
def test_a_directory_over_anything_else_replaces_it(tree, kind):
    (tree / "real").mkdir()
    apply([header(b"d", kind, link=b"real"), header(b"d/", b"5"), member(b"d/f")], tree)
    assert not (tree / "d").is_symlink()
    assert (tree / "d/f").exists()
    assert not (tree / "real/f").exists()


def test_an_existing_fifo_or_socket_is_replaced_and_never_opened(tree):
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    apply([member(name, b"data") for name in (b"fifo", b"socket", b"null")], tree)
    assert [(tree / name).read_bytes() for name in ("fifo", "socket", "null")] == [b"data"] * 3


def test_a_name_below_a_symlink_is_resolved_inside_the_tree(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    apply(
        [
            header(b"usr/lib/", b"5"),
            header(b"lib", b"2", link=b"usr/lib"),
            member(b"lib/f", b"1"),
            header(str(outside).encode().lstrip(b"/") + b"/", b"5"),
            header(b"absolute", b"2", link=str(outside).encode()),
            member(b"absolute/g"),
            header(b"up", b"2", link=b"../../../../.."),
            member(b"up/h"),
        ],
        tree,
    )
    assert (tree / "usr/lib/f").read_bytes() == b"1"
    assert list(outside.iterdir()) == []
    assert (tree / str(outside).lstrip("/") / "g").exists()
    assert (tree / "h").exists()


def test_a_file_over_a_symlink_replaces_the_link_and_not_its_target(tree):
    apply([member(b"t", b"target"), header(b"l", b"2", link=b"t"), member(b"l", b"new")], tree)
    assert (tree / "t").read_bytes() == b"target"
    assert not (tree / "l").is_symlink()


def test_a_symlink_that_is_replaced_leads_no_later_entry_astray(tree):
    apply(
        [
            header(b"p", b"2", link=b"."),
            member(b"p/one"),
            header(b"p/p/", b"5"),
            member(b"p/two"),
        ],
        tree,
    )
    assert sorted(path.name for path in tree.iterdir()) == ["one", "p"]
    assert (tree / "p/two").exists()


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../../..", b"\xff\xfe", b"a b\n", b"."])
def test_symlink_targets_are_verbatim(tree, target):
    apply([header(b"l", b"2", link=target, uid=4, mtime=9)], tree)
    assert os.readlink(os.fsencode(tree / "l")) == target
    assert ((tree / "l").lstat().st_uid, (tree / "l").lstat().st_mtime) == (4, 9)


def test_names_are_bytes(tree):
    apply([member(b"\xff\xfe\n\x1b[31m", b"x")], tree)
    assert os.listdir(os.fsencode(tree)) == [b"\xff\xfe\n\x1b[31m"]


def test_hard_links_share_an_inode_by_any_legal_spelling(tree):
    apply(
        [
            member(b"d/f", b"x"),
            header(b"a", b"1", link=b"/d/f"),
            header(b"b", b"1", link=b"./d//f"),
            header(b"s", b"2", link=b"d"),
            header(b"c", b"1", link=b"s/f"),
            header(b"l", b"1", link=b"s"),
        ],
        tree,
    )
    assert len({(tree / name).stat().st_ino for name in ("d/f", "a", "b", "c")}) == 1
    assert (tree / "l").is_symlink()


def test_a_hard_link_to_itself_changes_nothing(tree):
    apply(
        [member(b"f", b"x"), header(b"./f", b"1", link=b"/f"), header(b"f", b"1", link=b"f")], tree
    )
    assert (tree / "f").read_bytes() == b"x"


def test_a_hard_link_replaces_what_was_there(tree):
    apply([member(b"f", b"x"), member(b"g/h", b"y"), header(b"g", b"1", link=b"f")], tree)
    assert (tree / "g").samefile(tree / "f")


@pytest.mark.parametrize("follows", [b"", member(b"next", b"n")])
def test_the_body_of_a_hard_link_in_a_pax_archive_is_passed_over(tree, follows):
    link = header(b"g", b"1", 700, link=b"f") + bytes(1024)
    apply([pax((b"mtime", b"1")), member(b"f", b"x"), link, follows], tree)
    assert (tree / "g").read_bytes() == b"x"


def test_the_size_of_a_hard_link_without_a_body_is_ignored(tree):
    """Old writers fill it in; POSIX.1-1988 says that there is no body."""
    link = header(b"g", b"1", 700, link=b"f")
    apply([member(b"f", b"x"), link, member(b"next", b"n")], tree)
    assert (tree / "next").read_bytes() == b"n"


def test_fifos_and_devices_are_made(tree):
    apply(
        [
            header(b"fifo", b"6", mode=0o622),
            header(b"null", b"3", mode=0o666, major=1, minor=3),
            header(b"disk", b"4", mode=0o660, gid=6, major=8, minor=0x12345),
        ],
        tree,
    )
    assert stat.S_ISFIFO((tree / "fifo").stat().st_mode)
    assert (tree / "null").stat().st_rdev == os.makedev(1, 3)
    assert (tree / "disk").stat().st_rdev == os.makedev(8, 0x12345)
    assert stat.S_IMODE((tree / "disk").stat().st_mode) == 0o660


def test_special_bits_survive_a_change_of_owner(tree):
    apply(
        [member(b"f", b"x", mode=0o6755, uid=5, gid=6), header(b"d", b"5", mode=0o3775, gid=6)],
        tree,
    )
    assert stat.S_IMODE((tree / "f").stat().st_mode) == 0o6755
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o3775


def test_the_root_gets_its_mode_owner_attributes_and_time(tree):
    entry = pax((b"SCHILY.xattr.user.a", b"1"), (b"mtime", b"3.000000007"))
    apply([entry, header(b"./", b"5", mode=0o1750, uid=8), member(b"f")], tree)
    status = tree.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime_ns) == (
        0o1750,
        8,
        3 * 10**9 + 7,
    )
    assert os.getxattr(tree, "user.a") == b"1"


def test_directories_keep_their_times_when_things_are_made_in_them_later(tree):
    apply([header(b"a/b/", b"5", mtime=2), header(b"a/", b"5", mtime=1), member(b"a/b/f")], tree)
    assert ((tree / "a").stat().st_mtime, (tree / "a/b").stat().st_mtime) == (1, 2)


def test_a_directory_is_completed_though_the_link_that_led_to_it_is_gone(tree):
    apply(
        [
            header(b"l", b"2", link=b"real"),
            header(b"real/", b"5", mtime=1),
            header(b"l/sub/", b"5", mode=0o2711, mtime=2),
            member(b"l", b"a file now"),
        ],
        tree,
    )
    status = (tree / "real/sub").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o2711, 2)


def test_a_directory_that_was_replaced_passes_nothing_on(tree):
    apply(
        [
            header(b"a/", b"5", mode=0o711, mtime=1),
            member(b"a"),
            header(b"other/", b"5", mode=0o755, mtime=2),
            member(b"a", b"file", mode=0o600, mtime=3),
        ],
        tree,
    )
    assert (stat.S_IMODE((tree / "a").stat().st_mode), (tree / "a").stat().st_mtime) == (0o600, 3)


def test_a_directory_that_gets_the_number_of_a_removed_file_gets_none_of_its_acls(tree):
    acl = (b"SCHILY.acl.access", b"user::rw-,user:bob:r--,group::r--,mask::r--,other::r--")
    apply(
        [
            member(b"other"),
            pax(acl),
            member(b"f"),
            header(b"f", b"1", link=b"other"),
            header(b"d/", b"5", mode=0o711),
        ],
        tree,
    )
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o711


def test_access_times_are_those_given_or_else_those_of_modification(tree):
    apply([pax((b"atime", b"7.5")), member(b"f", mtime=2), member(b"g", mtime=3)], tree)
    assert (tree / "f").stat().st_atime_ns == 7_500_000_000
    assert (tree / "g").stat().st_atime_ns == 3_000_000_000


def test_paths_longer_than_path_max(tree):
    deep = b"/".join([b"d" * 200] * 60)
    apply(
        [
            pax((b"path", deep + b"/f")),
            member(b"short", b"deep"),
            pax((b"path", b"link"), (b"linkpath", deep + b"/f")),
            header(b"short", b"1", link=b"short"),
            pax((b"path", deep + b"/g"), (b"linkpath", deep + b"/f")),
            header(b"short", b"1", link=b"short"),
            pax((b"path", deep + b"/")),
            header(b"short/", b"5", mode=0o700),
        ],
        tree,
    )
    assert (tree / "link").read_bytes() == b"deep"
    assert (tree / "link").stat().st_nlink == 3


def test_thousands_of_levels_go_in_and_come_out(tree, tmp_path):
    path = b"a/" * 5000
    levels = [pax((b"path", path)), header(b"short/", b"5", mode=0o700, mtime=1)]
    again = tmp_path / "again"
    try:
        apply([*levels, pax((b"path", path + b"f")), member(b"s", b"deep")], tree)
        archive = make(tree)
        apply(archive, again)
        assert make(again) == archive
        assert archive.count(b"deep") == 1
    finally:
        erase(str(tree))
        erase(str(again))


@pytest.mark.parametrize("told", [True, False])
def test_default_acls_of_a_directory_that_was_there_are_not_inherited(tree, told):
    (tree / "d").mkdir()
    acl = bytes.fromhex(
        "0200000001000700ffffffff02000700e803000004000700ffffffff10000700ffffffff20000700ffffffff"
    )
    os.setxattr(tree / "d", "system.posix_acl_default", acl)
    entries = [member(b"d/f", mode=0o604), header(b"d/e/", b"5", mode=0o701), member(b"d/new/f")]
    if told:
        kept = pax((b"SCHILY.xattr.system.posix_acl_default", acl))
        entries = [kept, header(b"d/", b"5", mode=0o755), *entries]
    apply(entries, tree)
    assert os.listxattr(tree / "d/f") == []
    assert os.listxattr(tree / "d/e") == []
    assert os.listxattr(tree / "d/new") == []
    assert stat.S_IMODE((tree / "d/f").stat().st_mode) == 0o604
    assert stat.S_IMODE((tree / "d/e").stat().st_mode) == 0o701
    assert os.getxattr(tree / "d", "system.posix_acl_default") == acl
