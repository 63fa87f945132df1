"""A package installed with apt in a Debian container, committed, and run: what cowshed is for."""

import hashlib
from pathlib import Path

import pytest

from tests.conftest import require
from tests.interop.peers import run
from tests.running.conftest import Box

SUITE = "bookworm"
PROGRAM = "#!/bin/sh\necho moo\n"


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian with apt, without any list of packages."""
    require("mmdebstrap")
    path = tmp_path_factory.mktemp("debian") / "rootfs.tar"
    run("mmdebstrap", "--quiet", "--variant=apt", SUITE, path)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one package, hello-cow, whose configuration is a step of its own."""
    require("dpkg-deb")
    source, made = tmp_path / "source", tmp_path / "repo"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "usr/bin").mkdir(parents=True)
    made.mkdir()
    control = (
        "Package: hello-cow\nVersion: 1.0\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@localhost>\n"
        "Description: says moo\n"
    )
    (source / "DEBIAN/control").write_text(control)
    (source / "DEBIAN/postinst").write_text("#!/bin/sh\necho configured > /etc/hello-cow\n")
    (source / "DEBIAN/postinst").chmod(0o755)
    (source / "usr/bin/hello-cow").write_text(PROGRAM)
    (source / "usr/bin/hello-cow").chmod(0o755)
    package = made / "hello-cow_1.0_all.deb"
    run("dpkg-deb", "--root-owner-group", "--build", source, package)
    data = package.read_bytes()
    (made / "Packages").write_text(
        f"{control}Filename: ./{package.name}\nSize: {len(data)}\n"
        f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
    )
    return made


@pytest.mark.slow
def test_a_package_that_apt_installs_is_committed_and_run(box: Box, debian: Path, repository: Path):
    box.ok("import", "-c", 'CMD ["bash"]', str(debian), "debian")
    script = (
        "echo 'deb [trusted=yes] file:/repo ./' > /etc/apt/sources.list"
        " && apt-get -q update && apt-get -q install -y hello-cow"
    )
    done = box(
        "run", "--name", "shell", "-v", f"{repository}:/repo:ro", "debian", "sh", "-c", script
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Setting up hello-cow" in done.stdout
    changes = box.lines("diff", "shell")
    assert {"A /usr/bin/hello-cow", "A /etc/hello-cow", "C /etc/apt/sources.list"} <= {*changes}
    assert not [line for line in changes if line.split(" ", 1)[1].startswith(("/repo", "/proc"))]
    assert not {"A /etc/hosts", "A /etc/hostname", "A /etc/resolv.conf"} & {*changes}
    box.ok("commit", "shell", "cow")
    assert box.lines("diff", "cow") == changes
    box.ok("rm", "shell")
    assert box.run("cow", "hello-cow") == "moo\n"
    assert "install ok installed" in box.run("cow", "dpkg", "-s", "hello-cow")
    assert box("run", "--rm", "debian", "hello-cow").returncode == 127
    box.require_clean()
