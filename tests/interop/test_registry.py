"""By way of a registry an image is the same in cowshed, Docker, Podman and skopeo."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.interop.conftest import Grown, Shed
from tests.interop.images import STEPS
from tests.interop.peers import Docker, Podman, run
from tests.interop.test_trees import differences
from tests.registry.servers import Served, registry
from tests.trees import entries

Client = Docker | Podman


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require("docker-registry")
    with registry(tmp_path_factory.mktemp("registry")) as served:
        yield served


@pytest.fixture(params=["docker", "podman"])
def client(request: pytest.FixtureRequest) -> Client:
    client: Client = request.getfixturevalue(request.param)
    return client


# Docker 20.10 knows no zstd.
@pytest.mark.parametrize(
    ("program", "packed"), [("docker", "gzip"), ("podman", "gzip"), ("podman", "zstd")]
)
def test_what_cowshed_pushed_is_the_same_there(
    request: pytest.FixtureRequest, grown: Grown, served: Served, program: str, packed: str
):
    client: Client = request.getfixturevalue(program)
    name = f"{served.name}/ours/{program}:{packed}"
    grown.shed.ok("tag", grown.name, name)
    grown.shed.ok("push", "--compress", packed, name)
    client.pull(name)
    assert client.identity(name) == grown.shed.identity(name)
    with client.tree(name) as tree:
        assert differences(client, grown.tree, entries(tree)) == {}
    client.remove(name)


def test_what_a_client_pushed_is_the_same_here_and_goes_on_with_its_manifest(
    grown: Grown, client: Client, served: Served, there: Shed, tmp_path: Path
):
    kind = type(client).__name__.lower()
    made, name = f"localhost/{kind}:pushed", f"{served.name}/theirs/{kind}:1"
    grown.shed.ok("export", "-o", str(tmp_path / "rootfs.tar"), "grown:1")
    client.build(made, tmp_path / "rootfs.tar", STEPS)
    client.push(made, name)
    digest = there.ok("pull", "-q", name).strip()
    assert there.identity(name) == client.identity(made)
    with client.tree(made) as tree:
        assert differences(client, there.tree(name), entries(tree)) == {}
    onward = f"{served.name}/onward/{kind}:1"
    there.ok("tag", name, onward)
    assert there.ok("push", "-q", onward).strip() == digest
    client.remove(made)
    client.pull(onward)
    assert client.identity(onward) == there.identity(name)
    client.remove(onward)
    assert there.ok("check") == "No problems found.\n"


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_skopeo_copies_what_we_push_and_we_pull_what_it_copies(
    grown: Grown, served: Served, there: Shed, form: str
):
    require("skopeo")
    ours, copied = f"{served.name}/ours/skopeo:{form}", f"{served.name}/copied/skopeo:{form}"
    grown.shed.ok("tag", grown.name, ours)
    digest = grown.shed.ok("push", "-q", ours).strip()
    told = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{ours}"))
    assert told["Digest"] == digest
    skopeo = ("skopeo", "copy", "--insecure-policy", f"--format={form}")
    skopeo += ("--src-tls-verify=false", "--dest-tls-verify=false")
    run(*skopeo, f"docker://{ours}", f"docker://{copied}")
    there.ok("pull", copied)
    assert there.identity(copied)[1] == grown.shed.identity(ours)[1]
    assert there.tree(copied) == grown.shed.tree(ours)
