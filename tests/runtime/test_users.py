"""Who a container's process is, by a passwd and a group that anybody may have made."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RunError
from runtime.users import Identity, parse_group, parse_passwd, resolve

PASSWD = """\
#root:x:0:0::/comment:
root:x:0:0:root:/root:/bin/sh
daemon:*:1:1::/usr/sbin
alice:x:1000:1000:Alice,,,:/home/alice:/bin/sh
again:x:1000:1001::/home/again:/bin/sh
77:x:5:5::/five:/bin/sh
+::::::
garbage
nohome:x:8:8
alice:x:3:3::/second:/bin/sh
"""
GROUP = """\
# audio:x:1:
root:x:0:
alice:x:1000:
audio:x:29:alice,bob
video:x:44:bob,alice
empty:x:50:
77:x:51:
garbage
bad:x:many:alice
"""


class Tree:
    """A root directory that is open, with its /etc."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "etc").mkdir()
        self.descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)

    def users(self, passwd: str | bytes, group: str | bytes = b"") -> "Tree":
        for name, text in (("passwd", passwd), ("group", group)):
            data = text.encode() if isinstance(text, str) else text
            (self.path / "etc" / name).write_bytes(data)
        return self

    def resolve(self, user: str, *group_add: str) -> Identity:
        return resolve(self.descriptor, user, group_add)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    root = tmp_path / "root"
    root.mkdir()
    tree = Tree(root)
    yield tree
    os.close(tree.descriptor)


@pytest.fixture
def known(tree: Tree) -> Tree:
    return tree.users(PASSWD, GROUP)


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", Identity(0, 0, (0,), "/root", "root")),
        ("root", Identity(0, 0, (0,), "/root", "root")),
        ("alice", Identity(1000, 1000, (1000, 29, 44), "/home/alice", "alice")),
        ("1000", Identity(1000, 1000, (1000, 29, 44), "/home/alice", "alice")),
        ("0001000", Identity(1000, 1000, (1000, 29, 44), "/home/alice", "alice")),
        ("alice:audio", Identity(1000, 29, (29,), "/home/alice", "alice")),
        ("alice:7", Identity(1000, 7, (7,), "/home/alice", "alice")),
        ("again", Identity(1000, 1001, (1001,), "/home/again", "again")),
        ("4242", Identity(4242, 0, (0,), "", "")),
        ("4242:4343", Identity(4242, 4343, (4343,), "", "")),
        (":audio", Identity(0, 29, (29,), "/root", "root")),
        ("daemon", Identity(1, 1, (1,), "/usr/sbin", "daemon")),
        ("nohome", Identity(8, 8, (8,), "", "nohome")),
        # A number is never a name.
        ("77", Identity(77, 0, (0,), "", "")),
        ("alice:77", Identity(1000, 77, (77,), "/home/alice", "alice")),
        ("2147483647", Identity(2147483647, 0, (0,), "", "")),
    ],
)
def test_a_user_is_looked_up_as_docker_does(known: Tree, user: str, identity: Identity) -> None:
    assert known.resolve(user) == identity


def test_groups_that_are_added_come_after_the_users_own_and_once(known: Tree) -> None:
    assert known.resolve("alice", "empty", "29", "4711").groups == (1000, 29, 44, 50, 4711)


@pytest.mark.parametrize(
    ("user", "added", "message"),
    [
        ("bob", (), "no user 'bob' in the container's /etc/passwd"),
        ("garbage", (), "no user 'garbage'"),
        ("+", (), "no user '\\+'"),
        ("#", (), "no user '#'"),
        ("-1", (), "no user '-1'"),
        ("٣", (), "no user '٣'"),
        ("alice:bob", (), "no group 'bob' in the container's /etc/group"),
        ("alice:bad", (), "no group 'bad'"),
        ("alice:audio:video", (), "no group 'audio:video'"),
        ("alice", ("bob",), "no group 'bob'"),
        ("2147483648", (), "2147483648 is no id"),
        ("9" * 5000, (), "9 is no id"),
        ("alice:4294967295", (), "4294967295 is no id"),
        ("alice", ("99999999999",), "99999999999 is no id"),
    ],
)
def test_who_is_not_there_is_named(
    known: Tree, user: str, added: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RunError, match=message) as raised:
        known.resolve(user, *added)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_a_tree_without_the_files_has_root_and_numbers(tree: Tree) -> None:
    assert tree.resolve("") == Identity(0, 0, (0,), "", "")
    assert tree.resolve("5:6", "7") == Identity(5, 6, (6, 7), "", "")
    with pytest.raises(RunError, match="no user 'root'"):
        tree.resolve("root")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../etc/passwd"])
def test_a_link_to_the_hosts_file_is_the_containers_own(tree: Tree, target: str) -> None:
    (tree.path / "etc/passwd").symlink_to(target)
    with pytest.raises(RunError, match="no user 'root'"):
        tree.resolve("root")
    (tree.path / "etc/shadowed").write_text("root:x:0:0::/inside:")
    (tree.path / "etc/passwd").unlink()
    (tree.path / "etc/passwd").symlink_to(target.replace("passwd", "shadowed"))
    assert tree.resolve("root").home == "/inside"


def _directory(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _device(path: Path) -> None:
    path.symlink_to("/proc/self/fd/0")


@pytest.mark.parametrize("make", [_directory, _loop, _device])
def test_what_is_no_file_counts_as_not_there(tree: Tree, make: Callable[[Path], None]) -> None:
    for name in ("passwd", "group"):
        make(tree.path / "etc" / name)
    assert tree.resolve("5") == Identity(5, 0, (0,), "", "")
    with pytest.raises(RunError, match="no user 'root'"):
        tree.resolve("root")
    with pytest.raises(RunError, match="no group 'root'"):
        tree.resolve("5:root")


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_a_fifo_is_refused_as_the_runtimes_would_wait_for_it(tree: Tree, name: str) -> None:
    (tree.path / "etc" / name).unlink(missing_ok=True)
    os.mkfifo(tree.path / "etc" / name)
    with pytest.raises(RunError, match=f"/etc/{name} is no regular file"):
        tree.resolve("5")


def test_an_etc_that_leads_outside_is_inside(tree: Tree) -> None:
    (tree.path / "etc").rmdir()
    (tree.path / "etc").symlink_to("/etc")
    assert tree.resolve("5") == Identity(5, 0, (0,), "", "")


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_a_huge_file_is_refused_without_being_read(tree: Tree, name: str) -> None:
    with (tree.path / "etc" / name).open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(RunError, match=f"/etc/{name} is larger than 4 MiB"):
        tree.resolve("root")


def test_bytes_that_are_not_utf8_harm_their_own_line_only(tree: Tree) -> None:
    tree.users(b"caf\xe9:x:3:3::/caf\xe9:\nroot:x:0:0:M\xfcller:/root:\nx:x:4:4::/h\xff:\n")
    assert tree.resolve("root").home == "/root"
    assert tree.resolve("x") == Identity(4, 4, (4,), "", "x")
    assert tree.resolve("3") == Identity(3, 3, (3,), "", "")


def test_a_user_in_more_groups_than_the_kernel_takes_is_refused(tree: Tree) -> None:
    lines = "".join(f"g{number}:x:{number}:a\n" for number in range(70000))
    tree.users("a:x:1:1::/:\n", lines)
    with pytest.raises(RunError, match="in 70000 groups"):
        tree.resolve("a")


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_into_numbers_in_range(data: bytes) -> None:
    for user in parse_passwd(data):
        assert 0 <= user.uid < 1 << 31 and 0 <= user.gid < 1 << 31 and user.name
    for group in parse_group(data):
        assert 0 <= group.gid < 1 << 31 and group.name


_NAMES = st.text("abcXYZ09._-", min_size=1, max_size=8)
_IDS = st.integers(0, (1 << 31) - 1)
_JUNK = st.binary(max_size=40).map(lambda line: b"#" + line.replace(b"\n", b""))


@given(
    st.lists(st.tuples(_NAMES, _IDS, _IDS), max_size=8),
    st.lists(_JUNK | st.sampled_from([b"", b"  ", b"x", b"a:b:c:d", b"::::", b":x:1:1::/:"])),
    st.randoms(use_true_random=False),
)
def test_lines_among_junk_are_found_in_their_order(users, junk, random) -> None:
    lines = [f"{name}:x:{uid}:{gid}:gecos:/home/{name}:sh".encode() for name, uid, gid in users]
    mixed = [*lines]
    for line in junk:
        mixed.insert(random.randrange(len(mixed) + 1), line)
    found = [(user.name, user.uid, user.gid) for user in parse_passwd(b"\n".join(mixed))]
    assert found == users
