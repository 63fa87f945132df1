"""An image is the same in cowshed, Docker, Podman and umoci, whoever made it and whoever has it.

The same are the digest of its config, the diff IDs of its layers, and its tree: every type, mode,
owner, time to the nanosecond, attribute, capability, ACL, hard link, device and content.
"""

import os
from pathlib import Path

import pytest

from oci.digest import digest
from tests.interop.conftest import PEERS, Grown, Shed, save
from tests.interop.images import STEPS, by_hand, config_of, docker_archive, links, read_tar
from tests.interop.peers import Docker, Peer, Podman, Tree, Umoci
from tests.trees import difference, entries


def differences(peer: Peer, one: Tree, other: Tree) -> dict[bytes, object]:
    """What differs, by path, but for what the peer takes from no layer."""
    one, other = peer.kept(one), peer.kept(other)
    return {
        path: [pair for pair in zip(one[path], other[path], strict=True) if pair[0] != pair[1]]
        if kind == "modified"
        else kind
        for path, kind in difference(one, other)
    }


def test_what_cowshed_committed_is_the_same_there(grown: Grown, peer: Peer, tmp_path: Path):
    peer.load(save(grown.shed, tmp_path / "out", grown.name, form=peer.form), grown.name)
    assert peer.identity(grown.name) == grown.shed.identity(grown.name)
    with peer.tree(grown.name) as tree:
        assert differences(peer, grown.tree, entries(tree)) == {}
    peer.remove(grown.name)


# Docker 20.10 and umoci 0.4 know no zstd.
PACKED = (("docker", "gzip"), ("podman", "gzip"), ("podman", "zstd"), ("umoci", "gzip"))


@pytest.mark.parametrize(("program", "packed"), PACKED)
def test_layers_may_be_packed(
    request: pytest.FixtureRequest, grown: Grown, program: str, packed: str, tmp_path: Path
):
    peer: Peer = request.getfixturevalue(program)
    name = f"packed:{packed}"
    grown.shed.ok("tag", grown.name, name)
    target = str(tmp_path / "out")
    grown.shed.ok("save", "--format", peer.form, "--compress", packed, "-o", target, name)
    peer.load(tmp_path / "out", name)
    assert peer.identity(name) == grown.shed.identity(name)
    with peer.tree(name) as tree:
        assert differences(peer, grown.tree, entries(tree)) == {}
    # A layer that it has is not read again.
    peer.remove(name)


@pytest.fixture(scope="session", params=PEERS)
def made(
    request: pytest.FixtureRequest, grown: Grown, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Peer, str, Path]:
    """An image of six layers that a peer made, of what cowshed exported, and its archive."""
    peer: Peer = request.getfixturevalue(request.param)
    directory = tmp_path_factory.mktemp(request.param)
    rootfs = directory / "rootfs.tar"
    grown.shed.ok("export", "-o", str(rootfs), "grown:1")
    name = f"localhost/{request.param}:made"
    peer.build(name, rootfs, STEPS)
    peer.save(directory / "saved", name)
    return peer, name, directory / "saved"


def loaded(there: Shed, archive: Path, name: str) -> str:
    """What the image is called in the store now: umoci's have tags, and no names."""
    *_, called = there.ok("load", "-i", str(archive)).split()
    assert called == name or called.startswith("sha256:")
    return called


def test_what_a_peer_made_is_the_same_here(made: tuple[Peer, str, Path], there: Shed):
    peer, name, archive = made
    image = loaded(there, archive, name)
    assert there.identity(image) == peer.identity(name)
    assert len(there.json("inspect", image)[0]["RootFS"]["Layers"]) == 6
    assert there.json("inspect", image)[0]["Config"]["Labels"]["by"] in name
    with peer.tree(name) as tree:
        assert differences(peer, entries(tree), there.tree(image)) == {}
    assert there.ok("check") == "No problems found.\n"


def test_what_a_peer_made_goes_back_as_it_came(
    made: tuple[Peer, str, Path], there: Shed, tmp_path: Path
):
    peer, name, archive = made
    image = loaded(there, archive, name)
    there.ok("tag", image, name)
    back = save(there, tmp_path / "back", name, form=peer.form)
    before = peer.identity(name)
    with peer.tree(name) as tree:
        whole = entries(tree)
    peer.remove(name)
    peer.load(back, name)
    assert peer.identity(name) == before
    with peer.tree(name) as tree:
        assert differences(peer, whole, entries(tree)) == {}


def test_a_commit_on_what_a_peer_made_adds_one_layer(
    made: tuple[Peer, str, Path], there: Shed, tmp_path: Path
):
    peer, name, archive = made
    there.ok("tag", loaded(there, archive, name), "more:7")
    there.grow("more:7", more)
    peer.load(save(there, tmp_path / "out", "more:7", form=peer.form), "more:7")
    config, layers = peer.identity("more:7")
    assert (config, layers) == there.identity("more:7")
    assert layers[:-1] == peer.identity(name)[1]
    with peer.tree("more:7") as tree:
        assert differences(peer, there.tree("more:7"), entries(tree)) == {}


def more(top: Path) -> None:
    """Changes for which there is room in an image that has had them all."""
    (top / "bin/ping").write_text("other")
    (top / "three").unlink()
    (top / "four").write_text("4")
    # As in images.describes.
    os.utime(top / "bin")


def exported(tree: Tree) -> Tree:
    """What Docker and Podman write of a root filesystem: whole seconds, and few attributes."""
    return {
        path: entry._replace(
            mtime=entry.mtime // 10**9,
            xattrs=tuple(pair for pair in entry.xattrs if pair[0] == "security.capability"),
        )
        for path, entry in tree.items()
    }


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_a_root_filesystem_goes_out_and_comes_in(
    request: pytest.FixtureRequest, program: str, grown: Grown, there: Shed, tmp_path: Path
):
    peer: Docker | Podman = request.getfixturevalue(program)
    grown.shed.ok("export", "-o", str(tmp_path / "ours"), grown.name)
    peer("import", tmp_path / "ours", "localhost/flat:1")
    with peer.tree("localhost/flat:1") as tree:
        assert differences(peer, grown.tree, entries(tree)) == {}
    with peer.container("localhost/flat:1") as (container, tree):
        peer("export", "-o", tmp_path / "theirs", container)
        there.ok("import", str(tmp_path / "theirs"), "flat:1")
        imported = there.tree("flat:1")
        assert differences(peer, exported(entries(tree)), exported(imported)) == {}


def test_docker_saves_the_same_bytes_before_and_after(
    docker: Docker, there: Shed, tmp_path: Path, grown: Grown
):
    rootfs = tmp_path / "rootfs.tar"
    grown.shed.ok("export", "-o", str(rootfs), "grown:1")
    docker.build("bytes:1", rootfs, [links])
    docker.save(tmp_path / "first", "bytes:1")
    there.ok("load", "-i", str(tmp_path / "first"))
    saved = save(there, tmp_path / "second", "bytes:1")
    config, diff_ids = docker.identity("bytes:1")
    docker.remove("bytes:1")
    docker.load(saved, "bytes:1")
    docker.save(tmp_path / "third", "bytes:1")
    first, second, third = (read_tar(tmp_path / each) for each in ("first", "second", "third"))
    assert first == third
    tars = [data for path, data in first.items() if path.endswith("layer.tar")]
    blobs = {path.removeprefix("blobs/sha256/"): data for path, data in second.items()}
    kept = [blobs[id.removeprefix("sha256:")] for id in diff_ids]
    assert sorted(tars) == sorted(kept)
    assert blobs[config.removeprefix("sha256:")] == first[f"{config.removeprefix('sha256:')}.json"]


def test_umoci_finds_nothing_that_differs_from_what_it_unpacked(
    grown: Grown, umoci: Umoci, tmp_path: Path
):
    """Its record of what the layers say, an mtree, is held against the tree on the disk."""
    umoci.load(save(grown.shed, tmp_path / "out", grown.name, form="oci"), "grown:6")
    bundle = umoci.unpack("grown:6")
    _, before = umoci.identity("grown:6")
    umoci.repack("grown:6", bundle)
    assert umoci.identity("grown:6")[1] == before
    (bundle / "rootfs/three").write_text("changed")
    umoci.repack("grown:6", bundle)
    assert len(umoci.identity("grown:6")[1]) == len(before) + 1


def test_layers_made_by_hand_mean_the_same_everywhere_and_come_back(
    peer: Peer, there: Shed, elsewhere: Shed, tmp_path: Path
):
    """Their config has fields that no specification knows, and a form that no tool writes."""
    layers = by_hand(links_below=peer.links_below)
    docker_archive(tmp_path / "in", "hand:1", layers)
    there.ok("load", "-i", str(tmp_path / "in"))
    identity = there.identity("hand:1")
    assert identity == (digest(config_of(layers)), [digest(layer) for layer in layers])
    peer.load(save(there, tmp_path / "out", "hand:1", form=peer.form), "hand:1")
    assert peer.identity("hand:1") == identity
    with peer.tree("hand:1") as tree:
        assert differences(peer, entries(tree), there.tree("hand:1")) == {}
    peer.save(tmp_path / "back", "hand:1")
    image = loaded(elsewhere, tmp_path / "back", "hand:1")
    assert elsewhere.identity(image) == identity
    saved = read_tar(save(elsewhere, tmp_path / "again", image))
    assert saved[f"blobs/{identity[0].replace(':', '/')}"] == config_of(layers)


def test_images_that_share_layers_are_in_one_archive(
    grown: Grown, docker: Docker, podman: Podman, there: Shed, tmp_path: Path
):
    names = ["grown:1", "grown:6"]
    archive = save(grown.shed, tmp_path / "out", *names)
    assert len([path for path in read_tar(archive) if path.startswith("blobs/")]) == 6 + 2 * 2
    for peer in (docker, podman):
        for name in names:
            peer.load(archive, name)
            assert peer.identity(name) == grown.shed.identity(name)
        peer.save(tmp_path / "back", *names)
        there.ok("load", "-i", str(tmp_path / "back"))
        (tmp_path / "back").unlink()
        peer.remove(*names)
    for name in names:
        assert there.identity(name) == grown.shed.identity(name)
    assert len(os.listdir(there.root / "pool/layers")) == 6
