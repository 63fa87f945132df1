"""Archives as GNU tar writes them, in each of its formats, applied and compared with the tree."""

import os
import shutil
import struct
import subprocess

import pytest

from oci import acl
from oci.errors import ArchiveError
from oci.tarheader import FILE, Entry, encode
from tests.conftest import mounted, require
from tests.oci.archives import apply, body, gnu_tar, header, make, member, pax, summed
from tests.trees import entries, fill, posix_acl


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def without_sockets(tree):
    """The entries but for the sockets, which are not in archives."""
    return {path: entry for path, entry in entries(tree).items() if not path.endswith(b"socket")}


@pytest.mark.parametrize(
    "sparse", ["", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]
)
def test_a_tree_with_one_of_everything_is_the_same_after_gnu_tar_and_apply(
    source, tmp_path, sparse
):
    fill(source)
    options = ["--sparse", sparse] if sparse else []
    archive = gnu_tar(
        "-C", source, "--format=posix", "--xattrs", "--xattrs-include=*", *options, "-cf", "-", "."
    )
    apply(archive, tmp_path / "tree")
    assert without_sockets(tmp_path / "tree") == without_sockets(source)


def test_our_archive_of_it_is_the_same_after_gnu_tar(source, tmp_path):
    fill(source)
    (tmp_path / "tree").mkdir()
    gnu_tar(
        "-C", tmp_path / "tree", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-",
        data=make(source),
    )  # fmt: skip
    assert without_sockets(tmp_path / "tree") == without_sockets(source)


@pytest.mark.parametrize("kind", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_names_owners_and_modes_in_every_format(source, tmp_path, kind):
    long = "d" * 90
    (source / long / "e").mkdir(parents=True)
    (source / long / "e" / "f").write_bytes(b"x" * 10000)
    (source / "l").symlink_to("f" * 99)
    if kind in ("oldgnu", "gnu", "posix"):
        (source / long / ("f" * 200)).symlink_to("t" * 3000)
        os.chown(source / "l", 3_000_000, 4_000_000_000, follow_symlinks=False)
    os.link(source / long / "e" / "f", source / "h")
    for path in (source / long / "e" / "f", source):
        os.utime(path, (1e9, 1e9))
    if kind == "v7":
        shutil.rmtree(source / long)
    apply(gnu_tar("-C", source, f"--format={kind}", "-cf", "-", "."), tmp_path / "tree")
    apart = {"mtime": 0, "names": frozenset()}
    seen = [
        {path: entry._replace(**apart) for path, entry in entries(tree).items()}
        for tree in (source, tmp_path / "tree")
    ]
    assert seen[0] == seen[1]


def sparse_file(path, pieces=7):
    with path.open("wb") as file:
        for number in range(pieces):
            file.seek(number << 20)
            file.write(b"%d" % number * 5000)
        file.truncate((pieces << 20) + 12345)


@pytest.mark.parametrize("pieces", [0, 1, 7, 200])
@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)
def test_sparse_members_have_their_contents_and_their_holes(source, tmp_path, options, pieces):
    name = "sparse" * 20
    sparse_file(source / name, pieces)
    (source / "zz").write_bytes(b"what comes after is found")
    archive = gnu_tar("-C", source, "--sparse", *options, "-cf", "-", name, "zz")
    tree = tmp_path / "tree"
    applied = apply(archive, tree)
    assert (tree / name).read_bytes() == (source / name).read_bytes()
    assert (tree / name).stat().st_blocks <= (source / name).stat().st_blocks + 8
    assert (tree / "zz").read_bytes() == b"what comes after is found"
    assert applied.size == (source / name).stat().st_size + 25


def test_acls_and_capabilities_that_gnu_tar_wrote(source, tmp_path):
    require("setfacl")
    (source / "d").mkdir()
    (source / "f").write_bytes(b"x")
    subprocess.run(["setfacl", "-m", "u:1234:rwx,g:55:r,m::rw", source / "f"], check=True)
    subprocess.run(
        ["setfacl", "-m", "u:daemon:rx,d:u:4321:rx,d:g:daemon:w", source / "d"], check=True
    )
    capability = struct.pack("<5I", 0x02000001, 0x2000, 0, 0, 0)
    os.setxattr(source / "f", "security.capability", capability)
    (source / "etc").mkdir()
    for table in ("passwd", "group"):
        shutil.copy(f"/etc/{table}", source / "etc" / table)
    archive = gnu_tar(
        "-C", source, "--acls", "--xattrs", "--xattrs-include=security.*", "-cf", "-", "."
    )
    assert b"SCHILY.acl.access=" in archive
    apply(archive, tmp_path / "tree")
    assert entries(tmp_path / "tree") == entries(source)


def acl_of(text, tree, *others, kind=b"0"):
    apply([pax((b"SCHILY.acl.access", text)), header(b"f", kind), *others], tree)
    packed = os.getxattr(tree / "f", "system.posix_acl_access")
    return [struct.unpack_from("<HHI", packed, at) for at in range(4, len(packed), 8)]


WHOLE = b"user::rw-\nuser:%b\ngroup::r--\nmask::rw-\nother::---\n"


def test_the_numbers_of_an_acl_are_those_of_the_tree(tmp_path):
    tables = (
        member(b"etc/passwd", b"alice:x:7:8::/:/bin/sh\nalice:x:1:1::/:\nbob:x:bad:\n"),
        member(b"etc/group", b"staff:x:77:\n"),
    )
    seen = acl_of(WHOLE % b"alice:rwx", tmp_path / "a", *tables)
    assert seen[1] == (0x02, 7, 7)
    seen = acl_of(b"u::rwx,g::rx,g:staff:r,m:rwx,o:x # all", tmp_path / "b", *tables)
    assert seen[2] == (0x08, 4, 77)


def test_a_number_at_the_end_of_an_acl_entry_is_what_counts(tmp_path):
    assert acl_of(WHOLE % b"nobody knows:r--:42", tmp_path / "tree")[1] == (0x02, 4, 42)


def test_an_acl_with_names_stays_with_its_inode_under_any_name(tmp_path):
    tree = tmp_path / "tree"
    passwd = member(b"etc/passwd", b"alice:x:7:8::/:/bin/sh\n")
    acl_of(
        WHOLE % b"alice:rwx", tree, header(b"g", b"1", link=b"f"), member(b"f"), passwd,
        pax((b"SCHILY.acl.access", WHOLE % b"9:r")), header(b"f"),
    )  # fmt: skip
    assert os.getxattr(tree / "g", "system.posix_acl_access")[12:20] == struct.pack("<HHI", 2, 7, 7)
    assert os.getxattr(tree / "f", "system.posix_acl_access")[12:20] == struct.pack("<HHI", 2, 4, 9)


@pytest.mark.parametrize("passwd", [b"", b"other:x:1:1::/:\n", None])
def test_a_name_that_the_tree_does_not_know_is_an_error(tmp_path, passwd):
    tables = [header(b"etc/passwd", b"6")] if passwd is None else [member(b"etc/passwd", passwd)]
    with pytest.raises(ArchiveError, match=r"'f'.* names the user 'root'"):
        acl_of(WHOLE % b"root:rwx", tmp_path / "tree", *tables)


@pytest.mark.parametrize(
    "text",
    [
        b"user::rw-,group::r--",
        b"user::rw-,user:5:r--,group::r--,other::r--",
        b"user::rwz,group::r--,other::r--",
        b"user::rw-,group::r--,other::r--,other::r--",
        WHOLE % b"4294967295:r--",
        WHOLE % (b"9" * 10 + b":r--"),
        WHOLE % (b"9" * 5000 + b":r--"),
        WHOLE % (b"name:r--:" + b"9" * 5000),
    ],
)
def test_an_acl_that_is_not_whole_is_refused(tmp_path, text):
    with pytest.raises(ArchiveError, match="'f'"):
        acl_of(text, tmp_path / "tree")


@pytest.mark.parametrize("options", [["--acls"], ["--acls", "--xattrs", "--xattrs-include=*"]])
def test_gnu_tar_restores_the_acls_that_are_exported(source, tmp_path, options):
    require("setfacl")
    (source / "d").mkdir()
    (source / "f").touch()
    rules = "u:1:---,u:2:--x,u:3:-w-,u:4:-wx,g:5:r--,g:6:r-x,g:7:rw-,g:4294967294:rwx"
    subprocess.run(["setfacl", "-m", rules, source / "f", source / "d"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rx,g:0:w", source / "d"], check=True)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    gnu_tar("-C", theirs, "--numeric-owner", *options, "-xpf", "-", data=make(source))
    assert getfacl(theirs) == getfacl(source)
    assert b"default:user:1234:r-x" in getfacl(theirs)
    assert b"group:4294967294:rwx" in getfacl(theirs)
    assert entries(theirs) == entries(source)


def getfacl(tree):
    return subprocess.run(
        ["getfacl", "--numeric", "d", "f"], cwd=tree, stdout=subprocess.PIPE, check=True
    ).stdout


def test_the_text_of_an_acl_means_what_its_attribute_does(tmp_path):
    value = posix_acl(
        (0x01, 7, -1), (0x02, 0, 0), (0x02, 1, 9), (0x04, 2, -1), (0x08, 3, 8), (0x08, 4, 99),
        (0x10, 5, -1), (0x20, 6, -1),
    )  # fmt: skip
    text = acl.text(value)
    assert text == (
        b"user::rwx,user:0:---,user:9:--x,group::-w-,group:8:-wx,group:99:r--,mask::r-x,other::rw-"
    )
    apply([pax((b"SCHILY.acl.access", text)), member(b"f")], tmp_path / "tree")
    assert os.getxattr(tmp_path / "tree/f", "system.posix_acl_access") == value


def test_the_attribute_of_an_acl_counts_before_its_text(tmp_path):
    value = posix_acl((1, 6, -1), (2, 4, 77), (4, 4, -1), (0x10, 4, -1), (0x20, 0, -1))
    attribute = (b"SCHILY.xattr.system.posix_acl_access", value)
    for number, text in enumerate((WHOLE % b"5:rwx", b"nonsense")):
        tree = tmp_path / str(number)
        apply([pax(attribute, (b"SCHILY.acl.access", text)), member(b"f")], tree)
        assert os.getxattr(tree / "f", "system.posix_acl_access") == value


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\1\0\0\0",
        posix_acl((1, 7, -1))[:-1],
        posix_acl((3, 7, -1)),
        posix_acl((1, 8, -1)),
    ],
)
def test_what_is_no_acl_is_not_exported_as_one(value):
    with pytest.raises(ArchiveError, match="'f': its ACL"):
        encode(Entry(FILE, b"f", xattrs={b"system.posix_acl_default": value}))


def test_default_acls_of_the_archive_are_not_inherited(tmp_path):
    tree = tmp_path / "tree"
    default = pax((b"SCHILY.acl.default", WHOLE % b"5:rwx"))
    apply([default, header(b"d/", b"5"), member(b"d/f", mode=0o666)], tree)
    assert os.listxattr(tree / "d") == ["system.posix_acl_default"]
    assert os.listxattr(tree / "d/f") == []


def test_attributes_in_the_words_of_libarchive_star_and_red_hat(tmp_path):
    tree = tmp_path / "tree"
    big = os.urandom(3000)
    records = (
        (b"LIBARCHIVE.xattr.user.a%3db", b"AAEC"),
        (b"SCHILY.xattr.user.c%3Dd%25", b"x=\n\0"),
        (b"SCHILY.xattr.user.empty", b""),
        (b"SCHILY.xattr.user.big", big),
        (b"RHT.security.selinux", b"system_u:object_r:etc_t:s0"),
    )
    apply([pax(*records), member(b"f")], tree)
    assert {name: os.getxattr(tree / "f", name) for name in os.listxattr(tree / "f")} == {
        "user.a=b": b"\0\1\2",
        "user.c=d%": b"x=\n\0",
        "user.empty": b"",
        "user.big": big,
        "security.selinux": b"system_u:object_r:etc_t:s0\0",
    }


def test_attributes_as_large_as_linux_has_them_pass(tmp_path):
    """Eight of 64 KiB: more than ext4 stores, so the filesystem's own memory does."""
    with mounted("tmpfs", "none", tmp_path / "tmpfs", "rw") as tree:
        values = {f"trusted.{number}": os.urandom(65536) for number in range(8)}
        records = [(b"SCHILY.xattr." + name.encode(), value) for name, value in values.items()]
        apply([pax(*records), member(b"f")], tree)
        assert {name: os.getxattr(tree / "f", name) for name in os.listxattr(tree / "f")} == values
        again = make(tree)
        assert all(value in again for value in values.values())


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"1", 10**9),
        (b"1.", 10**9),
        (b"1.5", 1_500_000_000),
        (b"1600000000.123456789", 1_600_000_000_123_456_789),
        (b"1.1234567899", 1_123_456_789),
        (b"-1", -(10**9)),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"-0.0000000001", -1),
        (b"0.3", 300_000_000),
    ],
)
def test_times_are_exact(tmp_path, text, nanoseconds):
    apply([pax((b"mtime", text)), member(b"f")], tmp_path / "tree")
    assert (tmp_path / "tree/f").stat().st_mtime_ns == nanoseconds


def test_times_before_1970_in_base_256_and_back(tmp_path):
    tree = tmp_path / "tree"
    apply([member(b"f", mtime=(-(2**31)).to_bytes(12, "big", signed=True))], tree)
    assert (tree / "f").stat().st_mtime == -(2**31)
    apply(make(tree), tmp_path / "again")
    assert entries(tmp_path / "again") == entries(tree)


def test_a_global_header_counts_for_all_that_follow_until_it_is_changed(tmp_path):
    tree = tmp_path / "tree"
    apply(
        [
            member(b"a"),
            pax((b"uid", b"5"), (b"comment", b"from git"), kind=b"g"),
            member(b"b"),
            pax((b"uid", b"6")),
            member(b"c"),
            member(b"d"),
            pax((b"uid", b""), kind=b"g"),
            member(b"e", uid=9),
        ],
        tree,
    )
    assert [(tree / name).stat().st_uid for name in "abcde"] == [0, 5, 6, 5, 9]


def test_names_of_star_and_posix_and_gnu_in_their_prefixes(tmp_path):
    tree = tmp_path / "tree"
    star = bytearray(header(b"f", prefix=b"star"))
    star[345 + 131 : 345 + 155] = b"00000000001 00000000001 "
    star[508:512] = b"tar\0"
    gnu = header(b"f", magic=b"ustar  \0", prefix=b"01234567012\0")
    apply([header(b"f", prefix=b"posix/dir"), summed(star), gnu], tree)
    assert (tree / "posix/dir/f").exists()
    assert (tree / "star/f").exists()
    assert (tree / "f").exists()


def test_old_and_odd_types(tmp_path):
    tree = tmp_path / "tree"
    apply(
        [
            header(b"a label", b"V"),
            header(b"v7", b"\0", 3, magic=bytes(8)) + body(b"old"),
            header(b"contiguous", b"7", 1) + body(b"x"),
            header(b"dumped/", b"D", 6) + body(b"Yname\0"),
            header(b"directory/", b"\0", magic=bytes(8)),
            header(b"hinted/", b"5", 4096),
            pax((b"uid", b"3"), kind=b"X"),
            member(b"solaris"),
        ],
        tree,
    )
    assert sorted(path.name for path in tree.iterdir()) == [
        "contiguous", "directory", "dumped", "hinted", "solaris", "v7",
    ]  # fmt: skip
    assert (tree / "v7").read_bytes() == b"old"
    assert (tree / "dumped").is_dir() and (tree / "directory").is_dir()
    assert (tree / "solaris").stat().st_uid == 3


def test_numbers_with_blanks_in_odd_places(tmp_path):
    tree = tmp_path / "tree"
    apply(
        [member(b"f", mode=b"   644 \0", uid=b"\0" * 8, gid=b"7 \0junk!", mtime=b"       1234 ")],
        tree,
    )
    status = (tree / "f").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime) == (
        0o644,
        0,
        7,
        0o1234,
    )


def test_what_follows_the_end_is_not_read_as_entries(tmp_path):
    apply(member(b"f") + bytes(1024) + member(b"g") + bytes(1024), tmp_path / "tree")
    assert os.listdir(tmp_path / "tree") == ["f"]


def test_one_block_of_zeros_at_the_very_end_will_do(tmp_path):
    apply(member(b"f") + bytes(512), tmp_path / "tree")
    assert os.listdir(tmp_path / "tree") == ["f"]
