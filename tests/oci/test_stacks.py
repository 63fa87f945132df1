"""Random stacks of layers against a slow and simple union of them, as the image-spec defines it.

Each layer is rebuilt from its record besides. COWSHED_EXAMPLES=3000 makes a long run of it.
"""

import io
import os
import stat
import tempfile
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci import layer, tarsplit
from oci.errors import ArchiveError
from tests.conftest import require
from tests.oci.archives import END, header, member

EXAMPLES = settings(
    max_examples=int(os.environ.get("COWSHED_EXAMPLES", "60")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NAMES = ("a", "b", "c")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


class Node(NamedTuple):
    """An entry of a layer or of a tree; hard links share the number of their inode."""

    kind: str
    number: int
    mode: int = 0o755


class Layer(NamedTuple):
    """What a layer brings and hides, by path, and the order in which it says so."""

    nodes: dict
    whiteouts: set
    opaques: set
    links: dict
    order: list


def ancestors(path):
    """The directories above, the nearest first; the root is empty."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def united(below, top):
    """The union: whiteouts first, then what the layer brings (layer.md, "Whiteouts")."""

    def hidden(path):
        return any(place in top.whiteouts for place in (path, *ancestors(path))) or any(
            place in top.opaques for place in ancestors(path)
        )

    tree = {path: node for path, node in below.items() if not hidden(path)}
    for path, node in top.nodes.items():
        if node.kind != "directory" or (path in tree and tree[path].kind != "directory"):
            tree = {
                other: kept
                for other, kept in tree.items()
                if path not in (other, *ancestors(other)) or other in top.nodes
            }
        tree[path] = node
    for path, target in top.links.items():
        tree[path] = tree[target]
    for path in [*top.nodes, *top.links]:
        for parent in ancestors(path):
            if parent:
                tree.setdefault(parent, Node("directory", 0))
    return tree


@st.composite
def stacks(draw):
    """Two to four layers, and the tree that they make."""
    tree, layers = {}, []
    number = iter(range(1, 10_000))
    for _ in range(draw(st.integers(2, 4))):
        nodes = {}
        for path in draw(st.lists(PATHS, unique=True, max_size=7)):
            kind = draw(st.sampled_from(["file", "file", "directory", "symlink"]))
            mode = 0o777 if kind == "symlink" else draw(st.sampled_from([0o700, 0o4711]))
            if not any(
                nodes.get(above, Node("directory", 0)).kind != "directory"
                for above in ancestors(path)
            ) and (kind == "directory" or not any(path in ancestors(other) for other in nodes)):
                nodes[path] = Node(kind, next(number), mode)
        # What is no directory below can become one by an entry only, ahead of what is in it.
        first = []
        for path in list(nodes):
            for above in ancestors(path):
                if tree.get(above, Node("directory", 0)).kind != "directory":
                    nodes.setdefault(above, Node("directory", next(number), 0o700))
                    first.append(above)
        top = Layer(
            nodes,
            set(draw(st.lists(PATHS, max_size=4))),
            set(draw(st.lists(PATHS | st.just(""), max_size=1))),
            {},
            [],
        )
        tree = united(tree, top)
        order = [("node", path) for path in nodes if path not in first]
        order += [("whiteout", path) for path in top.whiteouts]
        order += [("opaque", path) for path in top.opaques]
        top.order[:] = [("node", path) for path in sorted(set(first), key=len)]
        top.order.extend(draw(st.permutations(order)))
        files = sorted(path for path, node in tree.items() if node.kind == "file")
        if files and draw(st.booleans()):
            target, path = draw(st.sampled_from(files)), draw(PATHS)
            if path not in tree and all(
                tree.get(above, Node("directory", 0)).kind == "directory"
                for above in ancestors(path)
            ):
                top.links[path] = target
                top.order.append(("link", path))
                tree = united_link(tree, path, target)
        layers.append(top)
    return layers, tree


def united_link(tree, path, target):
    return {
        **{above: Node("directory", 0) for above in ancestors(path) if above},
        **tree,
        path: tree[target],
    }


def archive(top):
    blocks = []
    for what, path in top.order:
        name = path.encode()
        parent, slash, last = name.rpartition(b"/")
        node = top.nodes.get(path)
        if what == "whiteout":
            blocks.append(member(parent + slash + b".wh." + last))
        elif what == "opaque":
            blocks.append(member((name + b"/" if name else b"") + b".wh..wh..opq"))
        elif what == "link":
            blocks.append(header(name, b"1", link=top.links[path].encode()))
        elif node.kind == "file":
            blocks.append(member(name, b"%d" % node.number, mode=node.mode, mtime=node.number))
        elif node.kind == "symlink":
            blocks.append(header(name, b"2", link=b"%d" % node.number, mtime=node.number))
        else:
            blocks.append(header(name + b"/", b"5", mode=node.mode, mtime=node.number))
    return b"".join(blocks) + END


def found(tree):
    """The nodes of a real tree, and which of them share an inode."""
    nodes, inodes = {}, {}
    for directory, directories, files in os.walk(tree):
        for name in directories + files:
            path = os.path.relpath(f"{directory}/{name}", tree)
            status = os.lstat(f"{directory}/{name}")
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                nodes[path] = Node("symlink", int(os.readlink(f"{directory}/{name}")), mode)
            elif stat.S_ISDIR(status.st_mode):
                nodes[path] = Node("directory", 0, mode)
            else:
                with open(f"{directory}/{name}") as file:
                    nodes[path] = Node("file", int(file.read()), mode)
            if not stat.S_ISDIR(status.st_mode):
                assert status.st_mtime == nodes[path].number
                assert inodes.setdefault(status.st_ino, nodes[path]) == nodes[path]
    assert len(set(inodes.values())) == len(inodes)
    return nodes


def applied(data, tree):
    """Apply an archive; whether it is faithful, and a function that rebuilds it."""
    with tempfile.TemporaryFile() as record:
        done = layer.apply_layer(io.BytesIO(data), tree, split=record.fileno())
        out = io.BytesIO()
        if done.faithful:
            record.seek(0)
            tarsplit.rebuild(record, tree, out.write)
            assert out.getvalue() == data
    return done.faithful


@EXAMPLES
@given(stacks())
def test_a_stack_of_layers_is_their_union_and_each_is_rebuilt(stack):
    layers, expected = stack
    with tempfile.TemporaryDirectory() as tree:
        for top in layers:
            assert applied(archive(top), tree)
            for path, node in top.nodes.items():
                if node.kind == "directory":
                    assert os.stat(f"{tree}/{path}").st_mtime == node.number
        assert found(tree) == {
            path: node._replace(number=0) if node.kind == "directory" else node
            for path, node in expected.items()
        }


KINDS = ["file", "file", "file", "directory", "symlink", "whiteout", "opaque"]
TARGETS = PATHS | st.sampled_from(["..", ".", "/", "../a", "/b"])
ANYTHING = st.tuples(st.sampled_from(KINDS), PATHS, TARGETS) | st.tuples(
    st.just("link"), PATHS, PATHS
)


def block(number, kind, path, target):
    name, link = path.encode(), target.encode()
    parent, slash, last = name.rpartition(b"/")
    return {
        "file": member(name, b"%d" % number),
        "directory": header(name + b"/", b"5"),
        "symlink": header(name, b"2", link=link),
        "link": header(name, b"1", link=link),
        "whiteout": member(parent + slash + b".wh." + last),
        "opaque": member(name + b"/.wh..wh..opq"),
    }[kind]


@EXAMPLES
@given(st.lists(ANYTHING, max_size=6), st.lists(ANYTHING, max_size=10))
def test_whatever_a_layer_replaces_and_hides_it_is_rebuilt_if_it_says_so(below, top):
    """The lower layer ends where it is wrong; an upper one that is wrong is not rebuilt."""
    with tempfile.TemporaryDirectory() as tree:
        for entries in (below, top):
            blocks = [block(number, *entry) for number, entry in enumerate(entries, 1)]
            try:
                applied(b"".join(blocks) + END, tree)
            except ArchiveError as error:
                assert "\n" not in str(error)
