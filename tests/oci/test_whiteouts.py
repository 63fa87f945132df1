"""What a layer does to the layers below it: whiteouts, replacements, links across layers."""

import contextlib
import gzip
import hashlib
import io
import os
import stat
import subprocess
import sys

import pytest

from oci import layer, tarsplit
from oci.errors import ArchiveError
from oci.sandbox import run_inside
from tests.conftest import require
from tests.oci.archives import END, apply, header, member, pax
from tests.oci.layers import applied


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


@pytest.fixture
def tree(tmp_path):
    """A tree with two files in each of two directories, one in the other."""
    (tmp_path / "tree").mkdir()
    below = [member(name, b"below") for name in (b"f", b"d/f", b"d/g", b"d/e/f", b"d/e/g")]
    apply(below, tmp_path / "tree")
    return tmp_path / "tree"


def paths(tree):
    """The files and links of the tree, and its directories with nothing in them."""
    found = []
    for directory, names, files in os.walk(tree):
        here = os.path.relpath(directory, tree)
        links = [name for name in names if os.path.islink(f"{directory}/{name}")]
        found += [os.path.normpath(f"{here}/{name}") for name in files + links]
        if not names and not files:
            found.append(f"{here}/")
    return sorted(found)


def whiteout(name, **fields):
    parent, slash, name = name.rpartition(b"/")
    return member(parent + slash + b".wh." + name, **fields)


def opaque(name):
    return member(name + b"/.wh..wh..opq")


def test_a_whiteout_hides_a_file_and_leaves_nothing_else(tree):
    applied([whiteout(b"d/f")], tree)
    assert paths(tree) == ["d/e/f", "d/e/g", "d/g", "f"]


def test_a_whiteout_hides_a_directory_with_all_in_it(tree):
    applied([whiteout(b"d")], tree)
    assert paths(tree) == ["f"]


def test_a_whiteout_of_a_link_leaves_what_it_leads_to(tree):
    (tree / "link").symlink_to("d")
    applied([whiteout(b"link")], tree)
    assert paths(tree) == ["d/e/f", "d/e/g", "d/f", "d/g", "f"]


def test_an_opaque_directory_hides_all_that_was_in_it(tree):
    applied([opaque(b"d")], tree)
    assert paths(tree) == ["d/", "f"]


def test_the_root_can_be_opaque(tree):
    applied([member(b"new"), member(b".wh..wh..opq"), member(b"newer")], tree)
    assert paths(tree) == ["new", "newer"]


@pytest.mark.parametrize("name", [b"absent", b"d/absent", b"absent/f", b"f/absent", b"x/.wh.opq"])
def test_a_whiteout_of_what_is_not_there_does_nothing(tree, name):
    before = paths(tree)
    applied([whiteout(name), opaque(b"absent"), opaque(b"f")], tree)
    assert paths(tree) == before


@pytest.mark.parametrize("first", [True, False])
def test_what_the_layer_brings_is_never_hidden_by_it(tree, first):
    whiteouts = [whiteout(b"f"), whiteout(b"d"), opaque(b"d/e")]
    brought = [member(b"f", b"new"), header(b"d/", b"5"), member(b"d/new"), member(b"d/e/new")]
    applied(whiteouts + brought if first else brought + whiteouts, tree)
    assert paths(tree) == ["d/e/new", "d/new", "f"]
    assert (tree / "f").read_bytes() == b"new"


def test_what_the_layer_brings_through_a_link_is_never_hidden_by_it(tree):
    (tree / "link").symlink_to("d/e")
    applied([member(b"link/f", b"new"), whiteout(b"d/e/f"), opaque(b"d")], tree)
    assert paths(tree) == ["d/e/f", "f", "link"]
    assert (tree / "d/e/f").read_bytes() == b"new"


def test_a_directory_that_the_layer_made_keeps_its_place_empty(tree):
    applied([header(b"d/e/", b"5", mode=0o711, mtime=3), whiteout(b"d")], tree)
    assert paths(tree) == ["d/e/", "f"]
    assert (stat.S_IMODE((tree / "d/e").stat().st_mode), (tree / "d/e").stat().st_mtime) == (
        0o711,
        3,
    )


@pytest.mark.parametrize("first", [True, False])
def test_a_hidden_directory_passes_nothing_on_to_the_one_in_its_place(tree, first):
    os.chown(tree / "d", 5, 6)
    (tree / "d").chmod(0o700)
    os.setxattr(tree / "d", "user.old", b"1")
    entries = [whiteout(b"d"), member(b"d/new")]
    applied(entries if first else entries[::-1], tree)
    status = (tree / "d").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o755)
    assert os.listxattr(tree / "d") == []
    assert paths(tree) == ["d/new", "f"]


def test_a_directory_that_is_opaque_keeps_its_own_metadata(tree):
    (tree / "d").chmod(0o700)
    applied([opaque(b"d"), member(b"d/new")], tree)
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o700


def test_a_directory_that_the_layer_names_has_its_time_whatever_is_hidden_in_it(tree):
    applied([header(b"d/", b"5", mtime=7), whiteout(b"d/f"), opaque(b"d/e")], tree)
    assert (tree / "d").stat().st_mtime == 7


def test_whiteouts_of_any_type_and_with_a_body_are_whiteouts(tree):
    applied(
        [
            header(b"d/.wh.f", b"1", link=b".wh..wh.aufs"),
            header(b"d/.wh.g", b"2", link=b"nowhere"),
            header(b"d/.wh.e/", b"5"),
            member(b".wh.f", b"body"),
            member(b"new"),
        ],
        tree,
    )
    assert paths(tree) == ["d/", "new"]


def test_the_names_of_aufs_are_passed_over(tree):
    before = paths(tree)
    applied(
        [
            header(b".wh..wh.aufs", size=0),
            header(b".wh..wh.plnk/", b"5"),
            member(b".wh..wh.plnk/123.456", b"body"),
            header(b".wh..wh.orph/", b"5"),
            member(b".wh..wh.orph/.wh.f"),
            member(b".wh..wh..opq/.wh.f"),
            member(b"d/.wh..wh.other"),
        ],
        tree,
    )
    assert paths(tree) == before


def test_a_file_may_have_the_marker_in_its_name_but_not_in_front(tree):
    applied([member(b"a.wh.b"), member(b".wha"), member(b"wh.")], tree)
    assert {"a.wh.b", ".wha", "wh."} < set(paths(tree))


def test_import_takes_whiteouts_for_names(tree):
    apply([whiteout(b"f"), opaque(b"d")], tree)
    assert {".wh.f", "d/.wh..wh..opq", "f", "d/f"} < set(paths(tree))


def test_a_link_to_a_file_of_a_lower_layer_shares_its_inode(tree):
    applied([header(b"linked", b"1", link=b"d/f"), whiteout(b"d")], tree)
    assert paths(tree) == ["f", "linked"]
    assert (tree / "linked").read_bytes() == b"below"


def test_a_name_of_a_lower_layers_file_replaced_leaves_its_other_names(tree):
    os.link(tree / "f", tree / "other")
    applied([member(b"f", b"new"), whiteout(b"d/e")], tree)
    assert (tree / "other").read_bytes() == b"below"


@pytest.mark.parametrize("name", [b".wh.", b"d/.wh.", b".wh..", b"d/.wh...", b"./.wh.//"])
def test_a_whiteout_of_no_name_is_refused(tree, name):
    before = paths(tree)
    with pytest.raises(ArchiveError, match=r"^'.*': a whiteout of nothing that can be there$"):
        applied([member(name)], tree)
    assert paths(tree) == before


def test_a_name_below_a_whiteout_is_refused(tree):
    with pytest.raises(ArchiveError, match=r"'d/.wh.f/x': nothing can be below a whiteout"):
        applied([member(b"d/.wh.f/x")], tree)


@pytest.mark.parametrize("target", ["/", "..", "../../../../../../../..", "{outside}", "l"])
def test_no_whiteout_reaches_outside_the_tree(tree, tmp_path, target):
    outside = tmp_path / "outside"
    (outside / "directory").mkdir(parents=True)
    (outside / "file").touch()
    (tree / "l").symlink_to(target.format(outside=outside))
    names = (b"l/outside", b"l/file", b"l/directory", b"l", b"l/tmp")
    applied([opaque(b"l"), *map(whiteout, names), opaque(b"l/outside")], tree)
    assert paths(outside) == ["directory/", "file"]
    assert tree.exists()


@pytest.mark.parametrize("name", [b"../f", b"d/../../f", b"..", b"d/.."])
def test_a_whiteout_may_not_go_up(tree, name):
    with pytest.raises(ArchiveError, match=r"'\.\.' in a path is not allowed|nothing that can be"):
        applied([whiteout(name)], tree)


@pytest.mark.parametrize("name", [b".wh." + b"n" * 1_000_000, b"n" * 1_000_000 + b"/.wh.f"])
def test_a_name_of_a_million_bytes_is_told_in_one_short_line(tree, name):
    with pytest.raises(ArchiveError, match="cannot be made: File name too long") as caught:
        applied([pax((b"path", name)), member(b"short")], tree)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_whiteouts_work_at_any_depth(tree):
    deep = b"/".join([b"d" * 90] * 300)
    apply([pax((b"path", deep + b"/f")), member(b"short")], tree)
    applied([pax((b"path", deep + b"/g")), member(b"short"), whiteout(b"d" * 90)], tree)
    here = os.open(tree, os.O_RDONLY)
    for _ in range(300):
        below = os.open(b"d" * 90, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    assert os.listdir(here) == ["g"]
    os.close(here)
    applied([whiteout(b"d" * 90)], tree)
    assert "d" * 90 not in os.listdir(tree)


def test_the_number_of_an_inode_that_has_gone_misleads_no_whiteout(tree):
    """Some filesystems give the number of the directory that is replaced here to the next one."""
    applied(
        [
            member(b"d/x/y"),
            header(b"d/x", b"1", link=b"f"),
            member(b"d/e/z/new"),
            whiteout(b"d/e"),
            member(b"d/e/z/newer"),
        ],
        tree,
    )
    assert paths(tree) == ["d/e/z/new", "d/e/z/newer", "d/f", "d/g", "d/x", "f"]


def test_as_many_opaque_whiteouts_as_there_are_files_take_no_longer_than_they(tree):
    files = [member(b"big/%d" % number) for number in range(5000)]
    apply(files, tree)
    again = [files[0], *[opaque(b"big")] * 5000, *[whiteout(b"big")] * 5000, opaque(b"")]
    applied(again, tree)
    assert paths(tree) == ["big/0"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_diff_id_is_of_the_whole_unpacked_stream(tree, pack):
    archive = member(b"new", b"12345") + whiteout(b"f") + END + bytes(9000) + b"and more"
    told = []
    found = layer.apply_layer(io.BytesIO(pack(archive)), str(tree), progress=told.append)
    diff_id = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    assert found == (2, 5, diff_id, len(archive), True)
    assert sum(told) == len(pack(archive))


FAITHFUL = {
    "files, links and directories of lower layers replaced": [
        member(b"f", b"new"),
        header(b"d/f", b"2", link=b"g"),
        member(b"d/e", b"a file now"),
        member(b"g", b"1"),
    ],
    "lower files hidden after others were made beside them": [
        member(b"d/new", b"1"),
        whiteout(b"d/f"),
        opaque(b"d/e"),
    ],
    "a lower directory hidden around what was made in it": [member(b"d/e/f", b"1"), whiteout(b"d")],
    "directories repeated": [
        header(b"d/", b"5"),
        member(b"d/f", b"1"),
        header(b"d/", b"5"),
        header(b"d/e/", b"5"),
    ],
    "a hard link repeated": [
        member(b"a", b"1"),
        header(b"b", b"1", link=b"a"),
        header(b"b", b"1", link=b"a"),
    ],
    "files through a link that stays": [member(b"link/new", b"1"), whiteout(b"f")],
    "whiteouts with a body": [member(b".wh.f", b"body"), member(b".wh..wh.plnk/1", b"body")],
    "a link and a directory of lower layers hidden": [whiteout(b"link"), whiteout(b"d")],
}
UNFAITHFUL = {
    "a file twice": [member(b"a", b"1"), member(b"a", b"2")],
    "a file replaced by a link": [member(b"a", b"1"), header(b"a", b"2", link=b"f")],
    "a file replaced by a hard link": [member(b"a", b"1"), header(b"a", b"1", link=b"f")],
    "a file replaced by a directory": [member(b"a", b"1"), header(b"a/", b"5")],
    "a directory of the layer replaced": [member(b"a/b/c", b"1"), member(b"a", b"2")],
    "a lower directory replaced": [member(b"d/e/new", b"1"), header(b"d", b"2", link=b"g")],
    "a file twice by two paths": [member(b"link/a", b"1"), member(b"d/a", b"2")],
    "a link hidden after files were made through it": [
        member(b"link/a", b"1"),
        whiteout(b"link"),
    ],
    "a link replaced after files were made through it": [
        member(b"link/a", b"1"),
        header(b"link/", b"5"),
    ],
    "a link in between hidden": [member(b"two/a", b"1"), whiteout(b"d/one")],
    "a directory around a link hidden": [member(b"away/link/a", b"1"), whiteout(b"away")],
}


def rebuilt(entries, tree):
    """What was applied, and whether the record and the tree give the archive again."""
    archive = b"".join(entries) + END
    with open(tree.parent / "record", "w+b") as record:
        found = layer.apply_layer(io.BytesIO(archive), str(tree), split=record.fileno())
        record.seek(0)
        out = io.BytesIO()
        try:
            tarsplit.rebuild(record, str(tree), out.write)
        except Exception:  # noqa: BLE001 - whatever is wrong, it is not the archive
            return found, False
    return found, out.getvalue() == archive


@pytest.fixture
def linked(tree):
    """The tree with links, the last of which leads through another."""
    (tree / "link").symlink_to("d")
    (tree / "d/one").symlink_to("e")
    (tree / "two").symlink_to("d/one")
    (tree / "away").mkdir()
    (tree / "away/link").symlink_to("../d")
    return tree


@pytest.mark.parametrize("entries", FAITHFUL.values(), ids=FAITHFUL)
def test_a_faithful_layer_is_rebuilt_from_its_record(linked, entries):
    found, same = rebuilt(entries, linked)
    assert (found.faithful, same) == (True, True)


@pytest.mark.parametrize("entries", UNFAITHFUL.values(), ids=UNFAITHFUL)
def test_a_layer_that_loses_a_body_is_not_faithful(linked, entries):
    found, same = rebuilt(entries, linked)
    assert (found.faithful, same) == (False, False)


def test_the_record_may_go_to_any_descriptor(tree):
    """A process that was started with its standard input closed gives that number to the next."""
    script = """
import io, os, sys
from oci import layer
os.close(0)
record = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
archive = io.BytesIO(bytes.fromhex(sys.argv[3]))
print(record, layer.apply_layer(archive, sys.argv[1], split=record).faithful)
"""
    archive = member(b"new", b"1") + END
    command = [sys.executable, "-c", script, tree, tree.parent / "record", archive.hex()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "0 True\n"
    out = io.BytesIO()
    with open(tree.parent / "record", "rb") as record:
        tarsplit.rebuild(record, str(tree), out.write)
    assert out.getvalue() == archive


def test_the_child_holds_no_other_descriptor_of_its_parents(tree):
    def look(pipe):
        held = []
        for fd in range(3, 100):
            with contextlib.suppress(OSError):
                held.append(stat.S_ISFIFO(os.fstat(fd).st_mode))
        return f"{sorted(held)} {os.fstat(kept).st_size}"

    before, kept, after = (os.open(tree / "f", os.O_RDONLY) for _ in range(3))
    try:
        assert run_inside(str(tree), look, lambda pipe: None, (kept,)) == "[False, True, True] 5"
    finally:
        for fd in (before, kept, after):
            os.close(fd)


def test_a_failure_is_told_in_one_line_and_leaves_no_record_that_ends(tree):
    with open(tree.parent / "record", "w+b") as record:
        with pytest.raises(ArchiveError, match="cut short"):
            layer.apply_layer(io.BytesIO(member(b"a", b"1")), str(tree), split=record.fileno())
        record.seek(0)
        with pytest.raises(ArchiveError):
            list(tarsplit.entries(record))
