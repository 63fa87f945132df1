"""A real Debian, with packages installed layer by layer, is the same in Docker and Podman."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import require
from tests.interop.conftest import Grown, Shed, save
from tests.interop.peers import Docker, Podman, run
from tests.trees import difference, entries

SUITE = "bookworm"
LAYERS = (("libcap2", "libcap2-bin"), ("libunistring2", "libidn2-0", "iputils-ping"), ("hello",))
"""Packages that are installed together. One of them gives a program a capability."""


@pytest.fixture(scope="session")
def debian(disk: Path) -> Grown:
    """debian:5, of which the last layer takes a package away."""
    for program in ("mmdebstrap", "dpkg", "setcap"):
        require(program)
    home = disk / "debian"
    home.mkdir()
    packages = " ".join(name for names in LAYERS for name in names)
    run(
        "mmdebstrap", "--quiet", "--variant=essential", SUITE, home / "rootfs.tar",
        f'--customize-hook=cd {home} && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q download '
        + packages,
    )  # fmt: skip
    shed = Shed(home / "store")
    shed.ok("import", "-c", 'CMD ["bash"]', str(home / "rootfs.tar"), "debian:5")
    for names in LAYERS:
        archives = [path for name in names for path in home.glob(f"{name}_*.deb")]
        container = shed.ok("create", "debian:5").strip()
        with shed.mounted(container) as tree:
            dpkg(tree, "--install", *archives)
        shed.ok("commit", container, "debian:5")
    container = shed.ok("create", "debian:5").strip()
    with shed.mounted(container) as tree:
        dpkg(tree, "--purge", "hello")
        kept = entries(tree)
    shed.ok("commit", container, "debian:5")
    return Grown(shed, "debian:5", kept)


def dpkg(tree: Path, *arguments: str | Path) -> None:
    command = ["dpkg", f"--root={tree}", "--force-unsafe-io", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_debian_grows_by_packages_and_is_the_same_there(
    debian: Grown, docker: Docker, podman: Podman, there: Shed, tmp_path: Path
):
    tree = debian.tree
    assert "security.capability" in dict(tree[b"usr/bin/ping"].xattrs)
    assert b"usr/bin/hello" not in tree
    archive = save(debian.shed, tmp_path / "debian.tar", debian.name)
    identity = debian.shed.identity(debian.name)
    assert len(identity[1]) == 5
    for peer in (docker, podman):
        peer.load(archive, debian.name)
        assert peer.identity(debian.name) == identity
        with peer.tree(debian.name) as found:
            assert difference(peer.kept(tree), peer.kept(entries(found))) == []
    docker.save(tmp_path / "back.tar", debian.name)
    there.ok("load", "-i", str(tmp_path / "back.tar"))
    assert there.identity(debian.name) == identity
    assert difference(tree, there.tree(debian.name)) == []
