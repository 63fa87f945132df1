"""A commit that is saved and loaded elsewhere is what the container was, but for its sockets."""

import os
from pathlib import Path

import pytest

from tests.interop.conftest import Grown, Shed
from tests.oci.changesets import without_sockets
from tests.trees import entries


@pytest.mark.parametrize("backend", ["btrfs", "vfs"])
@pytest.mark.parametrize(
    ("form", "packed"), [("docker-archive", "none"), ("oci-archive", "gzip"), ("oci", "zstd")]
)
def test_a_commit_is_the_container_wherever_it_is_loaded(
    grown: Grown, there: Shed, tmp_path: Path, backend: str, form: str, packed: str
):
    container = grown.shed.ok("create", grown.name).strip()
    name = f"{backend}:{packed}"
    with grown.shed.mounted(container) as tree:
        os.mknod(tree / "var/socket", 0o140600)
        (tree / "etc/last").write_text("last")
        kept = entries(tree)
        grown.shed.ok("commit", container, name)
    done = grown.shed(
        "save", "--format", form, "--compress", packed, "-o", str(tmp_path / "out"), name
    )
    assert done.returncode == 0
    assert "var/socket" in done.stderr and done.stderr.count("\n") == 1
    there.ok("init", "--backend", backend)
    assert there.ok("load", "-i", str(tmp_path / "out")) == f"Loaded image: {name}\n"
    assert there.tree(name) == without_sockets(kept)
    assert there.identity(name) == grown.shed.identity(name)
    assert there.ok("check") == grown.shed.ok("check") == "No problems found.\n"
