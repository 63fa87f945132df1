"""Archives of images that are damaged or malicious, loaded into real stores.

Each is refused in one line, leaves nothing behind, and does not stand in the way of the next.
"""

import bz2
import gzip
import json
import lzma
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from imagegraph.store import Store
from oci.errors import ArchiveError
from tests.cli.conftest import Cowshed
from tests.conftest import SharedBtrfs, require
from tests.oci.archives import header, member, pax
from tests.oci.bundles import (
    BETTER,
    FORMS,
    GOOD,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Block,
    Layout,
    blob,
    config,
    directory,
    docker,
    layer,
    link,
    oci,
    sha256,
    special,
    tar,
    written,
)
from tests.oci.refusing import Refusing

PACKERS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.fixture(scope="module")
def stores(
    shared_btrfs: SharedBtrfs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Store]]:
    """One store on each backend for all tests, each of which leaves it empty."""
    require("btrfs")
    made = tmp_path_factory.mktemp("hostile")
    roots = {"vfs": made / "vfs", "btrfs": shared_btrfs.point() / made.name}
    opened = {name: Store.init(str(root), backend=name) for name, root in roots.items()}
    yield opened
    for store in opened.values():
        store.close()


@pytest.fixture
def hostile(stores: dict[str, Store], tmp_path: Path) -> Iterator[Refusing]:
    refusing = Refusing(stores["vfs"], tmp_path)
    yield refusing
    refusing.clear()
    refusing.works()


@pytest.fixture(params=["vfs", "btrfs"])
def everywhere(
    request: pytest.FixtureRequest, stores: dict[str, Store], tmp_path: Path
) -> Iterator[Refusing]:
    refusing = Refusing(stores[request.param], tmp_path)
    yield refusing
    refusing.clear()
    refusing.works()


# Layers that reach outside


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[str]:
    """A directory that no layer may touch."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    before = outside.stat()
    yield str(outside)
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (outside / "secret").stat().st_nlink == 1
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def _linked(path: bytes, target: str, kind: bytes = b"2") -> bytes:
    return link(path.decode(), target, kind).blocks


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda out: [member(b"../evil", b"x")], "'..'"),
        (lambda out: [member(b"/../evil", b"x")], "'..'"),
        (lambda out: [member(b"a/../../evil", b"x")], "'..'"),
        (lambda out: [member(b"../" * 30 + out[1:].encode()[:9], b"x")], "'..'"),
        (lambda out: [pax((b"path", f"..{out}/evil".encode())), member(b"x", b"x")], "'..'"),
        (lambda out: [_linked(b"l", out), member(b"l/evil", b"x")], "a link to nowhere"),
        (lambda out: [_linked(b"l", ".." + out), member(b"l/evil", b"x")], "a link to nowhere"),
        (lambda out: [_linked(b"h", f"{out}/secret", b"1")], "not in the tree"),
        (lambda out: [_linked(b"h", "../" * 30 + out[1:] + "/secret", b"1")], "'..'"),
        (lambda out: [_linked(b"l", out), _linked(b"h", "l/secret", b"1")], "not in the tree"),
        (lambda out: [member(b".wh..", b"")], "a whiteout of nothing"),
        (lambda out: [member(b"a/.wh...", b"")], "a whiteout of nothing"),
        (lambda out: [member(b".wh.", b"")], "a whiteout of nothing"),
        (lambda out: [member(b"../.wh.secret", b"")], "'..'"),
        (lambda out: [member(b".wh.etc/evil", b"")], "below a whiteout"),
        (lambda out: [header(b"/", b"2", link=b"x")], "only a directory can be the root"),
        (lambda out: [header(b"n", b"3", major=1 << 12)], "major device number"),
        (lambda out: [header(b"q", b"Q")], "type 'Q'"),
    ],
)
def test_no_layer_reaches_outside(everywhere, outside, build, says):
    assert says in everywhere.refuse(docker(GOOD, layer(*build(outside))), ArchiveError)


def test_links_of_a_lower_layer_lead_nowhere_outside(everywhere, outside):
    lower = layer(_linked(b"l", outside), _linked(b"up", "../../../../.."))
    everywhere.refuse(docker(lower, layer(member(b"l/evil", b"x"))), ArchiveError)
    hidden = docker(lower, layer(member(b"l/.wh.secret"), member(b"l/.wh..wh..opq")))
    assert everywhere.take(hidden) == {}
    above = docker(lower, layer(member(b"up/evil", b"x"), member(b"up/up/up/too", b"x")))
    assert everywhere.take(above) == {"evil": b"x", "too": b"x"}


def test_a_device_and_a_fifo_in_a_layer_are_made_and_never_opened(everywhere):
    node = header(b"zero", b"3", major=1, minor=5)
    lower = layer(node, header(b"fifo", b"6"), header(b"disk", b"4", major=7, minor=0))
    again = layer(node, header(b"fifo", b"6"), member(b"disk", b"a file now"))
    assert everywhere.take(docker(lower, again)) == {"disk": b"a file now"}


# The archive around the layers


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"x": Block(member(b"../evil", b"x"))}, "'..'"),
        ({"x": Block(member(b"a/../../evil", b"x"))}, "'..'"),
        ({"0/layer.tar": link("0/layer.tar", "/etc/hostname")}, "leads out of the archive"),
        ({"0/layer.tar": link("0/layer.tar", "../../x")}, "leads out of the archive"),
        ({"0/layer.tar": link("0/layer.tar", "../x", b"1")}, "'..'"),
        ({"0/layer.tar": link("0/layer.tar", "/etc/hostname", b"1")}, "no file '0/layer.tar'"),
        ({"0/layer.tar": link("0/layer.tar", "gone")}, "no file '0/layer.tar'"),
        ({"0/layer.tar": link("0/layer.tar", "layer.tar")}, "too many links"),
        ({"0/layer.tar": special("0/layer.tar", b"3")}, "not a regular file"),
        ({"0/layer.tar": special("0/layer.tar", b"6")}, "not a regular file"),
        ({"0/layer.tar": special("0/layer.tar", b"5")}, "not a regular file"),
        ({"manifest.json": link("manifest.json", "/etc/passwd")}, "leads out of the archive"),
        ({"manifest.json": link("manifest.json", "0/layer.tar")}, "manifest.json is not"),
        ({"manifest.json": special("manifest.json", b"5")}, "not a regular file"),
    ],
)
def test_the_archive_around_reaches_nothing_outside(hostile, members, says):
    assert says in hostile.refuse({**docker(GOOD), **members}, ArchiveError)


def test_links_inside_the_archive_are_followed(hostile):
    files = docker(GOOD, GOOD)
    files["1/layer.tar"] = link("1/layer.tar", "../0/./layer.tar")
    assert hostile.take(files) == {"etc/motd": b"moo\n"}
    files["1/layer.tar"] = link("1/layer.tar", "0/layer.tar", b"1")
    assert hostile.take(files) == {"etc/motd": b"moo\n"}


def test_a_member_with_a_sparse_map_is_not_read_as_if_it_had_none(hostile):
    keys = (b"GNU.sparse.map", b"0,512"), (b"GNU.sparse.numblocks", b"1")
    sparse = Block(pax(*keys, (b"GNU.sparse.size", b"9999")) + member(b"0/layer.tar", GOOD[:512]))
    assert "not a regular file" in hostile.refuse({**docker(GOOD), "0/layer.tar": sparse})


@pytest.mark.parametrize("what", ["link", "device", "fifo", "directory"])
@pytest.mark.parametrize("which", ["oci-layout", "index.json", "manifest", "config", "layer"])
def test_a_layout_has_regular_files_only(hostile, tmp_path, what, which):
    place = directory(oci(GOOD), tmp_path / "layout")
    parts = {sha256(GOOD): "layer", sha256(config([sha256(GOOD)])): "config"}
    named = {parts.get(f"sha256:{path.name}", "manifest"): path for path in place.rglob("?" * 64)}
    path = named.get(which, place / which)
    path.rename(tmp_path / "taken")
    match what:
        case "link":
            path.symlink_to(tmp_path / "taken")
        case "device":
            os.mknod(path, 0o020600, os.makedev(1, 5))
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
    assert "not a regular file" in hostile.refuse(place, ArchiveError)


@pytest.mark.parametrize("which", ["blobs", "blobs/sha256"])
def test_a_directory_of_a_layout_is_no_link(hostile, tmp_path, which):
    place = directory(oci(GOOD), tmp_path / "layout")
    (place / which).rename(tmp_path / "taken")
    (place / which).symlink_to(tmp_path / "taken")
    assert "links are not followed" in hostile.refuse(place, ArchiveError)


def test_the_layout_itself_may_be_reached_through_a_link(hostile, tmp_path):
    directory(oci(GOOD), tmp_path / "layout")
    (tmp_path / "link").symlink_to("layout")
    assert hostile.take(tmp_path / "link") == {"etc/motd": b"moo\n"}


# Digests and sizes


def _oci_with(**lies):
    """A layout in which the descriptor of `which` says something else."""
    layout = Layout()
    document = config([sha256(GOOD)])
    own = layout.add(GOOD, OCI_LAYER, **lies.get("layer", {}))
    described = layout.add(document, OCI_CONFIG, **lies.get("config", {}))
    manifest = {"schemaVersion": 2, "config": described, "layers": [own]}
    top = layout.add(json.dumps(manifest).encode(), OCI_MANIFEST)
    return layout.index({**top, **lies.get("manifest", {})})


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
@pytest.mark.parametrize(
    ("size", "says"),
    [
        (0, "says 0"),
        (1, "says 1"),
        (1 << 40, f"says {1 << 40}"),
        (-1, "impossible size"),
        (1 << 63, "impossible size"),
        (10**80, "impossible size"),
        (1.5, "is not an integer"),
        ("7", "is not an integer"),
        (True, "is not an integer"),
        (None, "is missing"),
    ],
)
def test_a_size_that_lies_is_refused(hostile, which, size, says):
    assert says in hostile.refuse(_oci_with(**{which: {"size": size}}), ArchiveError)


def _changed(files, path, data):
    return {**files, path: data}


def _config_of(files):
    return next(path for path in files if path.endswith(".json") and len(path) > 60)


OTHER = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (_changed(docker(GOOD), "0/layer.tar", BETTER), "its diff ID is to be"),
        (_changed(oci(GOOD), blob(sha256(GOOD)), BETTER.ljust(len(GOOD), b"\0")), "is damaged"),
        (docker(GOOD, document=config([OTHER])), "its diff ID is to be"),
        (docker(GOOD, BETTER, document=config([OTHER, sha256(BETTER)])), "its diff ID is to be"),
        (docker(GOOD, BETTER, document=config([sha256(GOOD), OTHER])), "its diff ID is to be"),
        (docker(GOOD, BETTER, document=config([sha256(BETTER), sha256(GOOD)])), "diff ID"),
        (_changed(docker(GOOD), _config_of(docker(GOOD)), config([sha256(GOOD)], a=1)), "digest"),
        (_oci_with(layer={"digest": OTHER}), "no file"),
        (_oci_with(config={"digest": OTHER}), "no file"),
        (_oci_with(manifest={"digest": OTHER}), "no file"),
        (_oci_with(layer={"digest": sha256(config([sha256(GOOD)]))}), "its manifest says"),
        (_oci_with(config={"digest": "sha512:" + "0" * 128}), "sha512"),
        (_oci_with(config={"digest": "sha256:../../../../etc/passwd"}), "hexadecimal"),
        (_oci_with(layer={"digest": "sha256:" + "G" * 64}), "hexadecimal"),
        (_oci_with(manifest={"digest": "sha256:" + "A" * 64}), "hexadecimal"),
        (_oci_with(manifest={"digest": ""}), "hexadecimal"),
        (_oci_with(manifest={"digest": 7}), "is not text"),
    ],
)
def test_a_digest_that_does_not_match_is_refused(everywhere, files, says):
    assert says in everywhere.refuse(files, ArchiveError)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_layer_is_held_against_both_its_digests(everywhere, kind):
    packed, other = PACKERS[kind](GOOD), PACKERS[kind](BETTER)
    layout = Layout()
    own = layout.add(packed, OCI_LAYER + "+gzip")
    files = layout.index(layout.image([own], config([sha256(GOOD)])))
    assert everywhere.take(files) == {"etc/motd": b"moo\n"}
    assert "its diff ID is to be" in everywhere.refuse(
        layout.index(layout.image([own], config([sha256(BETTER)])))
    )
    lying = {**own, "size": len(other)}
    layout.files[blob(sha256(packed))] = other
    said = everywhere.refuse(layout.index(layout.image([lying], config([sha256(BETTER)]))))
    assert "to have the digest" in said


def test_what_follows_the_packed_layer_counts_too(hostile):
    padded = gzip.compress(GOOD) + bytes(100_000)
    layout = Layout()
    own = layout.add(padded[:-1] + b"\1", OCI_LAYER + "+gzip")
    hostile.refuse(layout.index(layout.image([own], config([sha256(GOOD)]))), ArchiveError)


# Cut short


@pytest.mark.parametrize("form", FORMS)
def test_cut_at_any_block_it_is_refused(hostile, form):
    whole = tar(FORMS[form](GOOD, BETTER))
    for length in range(0, len(whole) - 512, 512):
        said = hostile.refuse(whole[:length], ArchiveError)
        # With its first header it is an archive, though not a whole one.
        assert ("not an archive" in said) == (length == 0), length
        assert ("cut short" in said) == (length > 0), length


@pytest.mark.parametrize("kind", PACKERS)
def test_cut_anywhere_a_packed_archive_is_refused(hostile, kind):
    whole = PACKERS[kind](tar(docker(GOOD)))
    for length in range(8, len(whole), max(1, len(whole) // 20)):
        assert kind in hostile.refuse(whole[:length], ArchiveError), length


@pytest.mark.parametrize("which", range(3))
def test_a_file_of_a_layout_that_is_cut_is_refused(hostile, tmp_path, which):
    place = directory(oci(GOOD), tmp_path / "layout")
    path = sorted(place.rglob("?" * 64))[which]
    data = path.read_bytes()
    for length in range(0, len(data), 100):
        path.write_bytes(data[:length])
        assert hostile.refuse(place, ArchiveError), length


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_that_is_cut_is_refused(everywhere, form):
    for length in range(0, len(GOOD) - 512, 512):
        assert everywhere.refuse(FORMS[form](GOOD[:length], BETTER), ArchiveError), length


def test_a_packed_layer_that_is_cut_is_refused(everywhere):
    packed = gzip.compress(GOOD)
    for length in (0, 5, 10, 20, len(packed) - 4):
        document = config([sha256(GOOD)])
        everywhere.refuse(
            {**docker(GOOD, document=document), "0/layer.tar": packed[:length]}, ArchiveError
        )


# The command


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        (tar(docker(GOOD))[:2000], "cut short"),
        (tar(docker(layer(member(b"../evil")))), "'..'"),
        (tar(docker(GOOD, document=config([OTHER]))), "diff ID"),
        (tar({**oci(GOOD), "index.json": b"[" * 5000}), "nested"),
        (gzip.compress(tar(docker(GOOD)))[:-3], "cut short"),
        (b"\x1b[2J" * 1000, "not an archive of images"),
        (b"", "not an archive of images"),
    ],
)
def test_the_command_says_one_line_and_goes_on(tmp_path, archive, says):
    require("root")
    cowshed = Cowshed(tmp_path / "root")
    cowshed.ok("init", "--backend", "vfs")
    written(archive, tmp_path / "archive")
    assert says in cowshed.refused("load", "-i", str(tmp_path / "archive"))
    with (tmp_path / "archive").open("rb") as file:
        assert says in cowshed.refused("load", stdin=file)
    with subprocess.Popen(["cat", tmp_path / "archive"], stdout=subprocess.PIPE) as cat:
        assert says in cowshed.refused("load", stdin=cat.stdout)
    assert cowshed.lines("images", "-aq") == []
    assert cowshed.ok("check") == "No problems found.\n"
    good = written(docker(GOOD, name="good:1"), tmp_path / "archive")
    assert cowshed.ok("load", "-i", str(good)) == "Loaded image: good:1\n"
