"""pull, push, search, login and logout, as a user has them."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ON_ZFS, Cowshed
from tests.conftest import require
from tests.registry.servers import ANN, Answer, Asked, FaultProxy, Served, registry


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require("docker-registry")
    with registry(tmp_path_factory.mktemp("plain")) as served:
        yield served


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require("docker-registry")
    with registry(tmp_path_factory.mktemp("locked"), password=True) as served:
        yield served


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where credentials are kept, and no configuration of the machine's."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "REGISTRY_AUTH_FILE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "empty.toml").touch()
    monkeypatch.setenv("COWSHED_CONFIG", str(tmp_path / "empty.toml"))
    return tmp_path


@pytest.fixture
def other(tmp_path: Path) -> Cowshed:
    other = Cowshed(tmp_path / "other")
    other.ok("init", "--backend", "vfs")
    return other


@pytest.mark.parametrize("where", ["cowshed", "on_btrfs", ON_ZFS])
def test_an_image_goes_there_and_comes_back(
    request: pytest.FixtureRequest, where: str, other: Cowshed, plain: Served
):
    cowshed: Cowshed = request.getfixturevalue(where)
    name = f"{plain.name}/cli/{where}"
    cowshed.ok("tag", "base:1", f"{name}:1")
    told = cowshed.ok("push", f"{name}:1")
    digest = told.removeprefix("1: digest: ").strip()
    assert told == f"1: digest: {digest}\n" and digest.startswith("sha256:")
    assert cowshed.ok("push", "-q", f"{name}:1") == f"{digest}\n"
    assert other.ok("pull", f"{name}:1") == (
        f"Digest: {digest}\nStatus: Downloaded newer image for {name}:1\n"
    )
    assert other.ok("pull", f"{name}:1").endswith(f"Image is up to date for {name}:1\n")
    assert other.ok("pull", "-q", f"{name}@{digest}") == f"{digest}\n"
    assert other.raw("export", f"{name}:1").stdout == cowshed.raw("export", "base:1").stdout
    [image] = other.json("inspect", f"{name}@{digest}")
    assert image["RepoDigests"] == [f"{name}@{digest}"]
    assert image["RepoTags"] == [f"{name}:1"]
    listed = other.lines("images", "--digests", "--no-trunc")
    assert digest in listed[-1]
    cowshed.ok("rmi", "-f", "base:1", f"{name}:1")
    assert "Downloaded newer image" in cowshed.ok("pull", f"{name}:1")
    assert other.raw("export", f"{name}:1").stdout == cowshed.raw("export", f"{name}:1").stdout
    assert cowshed.ok("check") == other.ok("check") == "No problems found.\n"


def test_all_tags_go_and_come(cowshed: Cowshed, other: Cowshed, plain: Served):
    name = f"{plain.name}/cli/many"
    for tag in ("a", "b", "c"):
        cowshed.ok("tag", "base:1", f"{name}:{tag}")
    assert len(cowshed.lines("push", "--all-tags", "--compress", "zstd", "--level", "1", name)) == 3
    assert len(set(other.lines("pull", "-a", "-q", name))) == 1
    [image] = other.json("images", "--format", "json")
    assert image["RepoTags"] == [f"{name}:{tag}" for tag in ("a", "b", "c")]


def test_what_the_registry_calls_a_tag_is_not_trusted(
    cowshed: Cowshed, other: Cowshed, plain: Served
):
    name = f"{plain.name}/cli/hostile"
    cowshed.ok("tag", "base:1", f"{name}:1")
    cowshed.ok("push", f"{name}:1")
    with FaultProxy(plain.name) as proxy:
        proxy.behave = lambda asked: (
            Answer(200, {}, b'{"tags": ["1", "../../x@y"]}')
            if asked.path.partition("?")[0].endswith("/tags/list")
            else asked.forward()
        )
        assert "../../x" in other.refused("pull", "-a", f"{proxy.name}/cli/hostile")
    assert other.lines("images", "-aq") == []


def test_a_tag_beside_a_digest_is_not_given(cowshed: Cowshed, other: Cowshed, plain: Served):
    name = f"{plain.name}/cli/both"
    cowshed.ok("tag", "base:1", f"{name}:1")
    digest = cowshed.ok("push", "-q", f"{name}:1").strip()
    other.ok("pull", f"{name}:other@{digest}")
    [image] = other.json("inspect", f"{name}@{digest}")
    assert (image["RepoTags"], image["RepoDigests"]) == ([], [f"{name}@{digest}"])


def test_an_interrupted_push_ends_at_once(cowshed: Cowshed, plain: Served):
    def behave(asked: Asked) -> Answer:
        if asked.method in ("PATCH", "PUT"):
            time.sleep(4)
        return asked.forward()

    with FaultProxy(plain.name) as proxy:
        proxy.behave = behave
        name = f"{proxy.name}/cli/slow:1"
        cowshed.ok("tag", "base:1", name)
        pushing = cowshed.start("push", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(1.5)
        before = time.monotonic()
        pushing.send_signal(signal.SIGINT)
        out, err = pushing.communicate(timeout=30)
        assert time.monotonic() - before < 2
    assert (pushing.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert cowshed.ok("check") == "No problems found.\n"


def test_what_is_there_is_found(cowshed: Cowshed, plain: Served):
    cowshed.ok("tag", "base:1", f"{plain.name}/cli/needle:1")
    cowshed.ok("push", f"{plain.name}/cli/needle:1")
    assert cowshed.lines("search", f"{plain.name}/needle")[1].split() == ["cli/needle", "0"]
    [found] = cowshed.json("search", "--format", "json", f"{plain.name}/needle")
    assert found == {"Name": "cli/needle", "Description": "", "Stars": 0, "Official": False}


def test_a_login_is_verified_before_it_is_kept(cowshed: Cowshed, locked: Served, home: Path):
    name = f"{locked.name}/cli/base:1"
    cowshed.ok("tag", "base:1", name)
    assert "wants a login" in cowshed.refused("push", name)
    login = ("login", "-u", ANN.username, "--password-stdin", locked.name)
    refused = cowshed.refused(*login, input=b"not it\n")
    assert "not it" not in refused and not (home / "docker").exists()
    assert cowshed.ok(*login, input=f"{ANN.password}\n".encode()) == "Login Succeeded\n"
    kept = home / "docker/config.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(kept.read_text())["auths"]) == [locked.name]
    cowshed.ok("push", name)
    assert "Removed" in cowshed.ok("logout", locked.name)
    cowshed.refused("pull", name)
    assert "Not logged in" in cowshed.ok("logout", locked.name)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("registries = 1", "registries is not a table"),
        ("nonsense = 1", "there is no setting"),
        ("[", "is not TOML"),
        ('[registries."REGISTRY"]\nblocked = true', "blocked"),
        ('[registries."REGISTRY"]\nmirrors = 3', "mirrors"),
    ],
)
def test_the_configuration_is_held_to_what_it_may_say(
    cowshed: Cowshed, plain: Served, home: Path, config: str, said: str
):
    (home / "empty.toml").write_text(config.replace("REGISTRY", plain.name))
    assert said in cowshed.refused("pull", f"{plain.name}/cli/base:1")


def test_a_mirror_is_asked_first(cowshed: Cowshed, other: Cowshed, plain: Served, home: Path):
    cowshed.ok("tag", "base:1", f"{plain.name}/mirrored/cli/base:1")
    cowshed.ok("push", f"{plain.name}/mirrored/cli/base:1")
    mirror = f'[registries."registry.invalid"]\nmirrors = ["{plain.name}/mirrored"]'
    (home / "empty.toml").write_text(mirror)
    told = other.ok("pull", "registry.invalid/cli/base:1")
    assert told.endswith("Downloaded newer image for registry.invalid/cli/base:1\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pull", "127.0.0.1:1/x:1"), "not reachable"),
        (("pull", "registry.invalid/x:1"), "not reachable"),
        (("pull", "NAME/none:1"), "404"),
        (("pull", "UPPER:1"), "lowercase"),
        (("pull", "--platform", "x", "NAME/none:1"), "invalid platform"),
        (("push", "none:1"), "no image is called none:1"),
        (("push", "-a", "none"), "no image is called none"),
        (("login", "NAME"), "--password-stdin"),
        (("login", "-u", "ann", "--password-stdin", "http://NAME/v2/"), "is no registry"),
        (("login", "-u", "ann", "--password-stdin", "name"), "is no registry"),
        (("login", "-u", "ann", "--password-stdin", "NAME"), "empty"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    cowshed: Cowshed, plain: Served, arguments: tuple[str, ...], said: str
):
    named = [each.replace("NAME", plain.name) for each in arguments]
    typed = b"secret\n" if said == "is no registry" else b""
    assert said in cowshed.refused(*named, input=typed)
    assert cowshed.ok("check") == "No problems found.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("push", "--compress", "xz", "base:1"),
        ("push", "--level", "9", "base:1"),
        ("push", "-a", "base:1"),
        ("push", "base@sha256:" + 64 * "0"),
        ("pull", "-a", "base:1"),
        ("login", "--password-stdin"),
        ("search", "--limit", "0", "x"),
    ],
)
def test_wrong_usage_is_told_as_that(cowshed: Cowshed, arguments: tuple[str, ...]):
    assert cowshed(*arguments).returncode == 2


def _blobs(served: Served, path: str, tag: str) -> list[str]:
    """The digests of an image's config and of its layers, the lowest first."""
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(
        f"http://{served.name}/v2/{path}/manifests/{tag}", None, accept
    )
    with urllib.request.urlopen(request) as answer:
        manifest = json.load(answer)
    return [each["digest"] for each in (manifest["config"], *manifest["layers"])]


@pytest.mark.parametrize("slow", ["the lowest layer", "the others"])
def test_an_interrupted_pull_ends_at_once_and_is_gone_on_with(
    cowshed: Cowshed, other: Cowshed, plain: Served, slow: str
):
    name = "base:1"
    for number in range(4):
        cowshed.ok("create", "--name", f"web{number}", name)
        cowshed.write(f"web{number}", f"/new-{number}", "x" * 1000)
        name = f"{plain.name}/cli/grown:1"
        cowshed.ok("commit", f"web{number}", name)
    cowshed.ok("push", name)
    config, lowest, *_ = _blobs(plain, "cli/grown", "1")
    came: list[str] = []

    def behave(asked: Asked) -> Answer:
        if asked.is_blob() and config not in asked.path:
            is_lowest = lowest in asked.path
            if is_lowest == (slow == "the lowest layer"):
                time.sleep(4)
        return asked.forward()

    def count(asked: Asked) -> Answer:
        came.append(asked.path)
        return asked.forward()

    with FaultProxy(plain.name) as proxy:
        proxy.behave = behave
        pulling = other.start(
            "pull", f"{proxy.name}/cli/grown:1", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        time.sleep(1.5)
        before = time.monotonic()
        pulling.send_signal(signal.SIGINT)
        out, err = pulling.communicate(timeout=30)
        assert time.monotonic() - before < 2
        assert (pulling.returncode, out) == (130, b"")
        assert b"Traceback" not in err
        assert other.lines("images", "-aq") == []
        proxy.behave = count
        other.ok("pull", f"{proxy.name}/cli/grown:1")
    assert any(lowest in path for path in came) == (slow == "the lowest layer")
    assert other.ok("check") == "No problems found.\n"


def test_what_an_interrupted_pull_leaves_is_named_and_ended(
    cowshed: Cowshed, other: Cowshed, plain: Served
):
    cowshed.ok("create", "--name", "web", "base:1")
    cowshed.write("web", "/new", "x")
    cowshed.ok("commit", "web", f"{plain.name}/cli/two:1")
    cowshed.ok("push", f"{plain.name}/cli/two:1")
    *_, highest = _blobs(plain, "cli/two", "1")

    def behave(asked: Asked) -> Answer:
        if highest in asked.path:
            time.sleep(4)
        return asked.forward()

    with FaultProxy(plain.name) as proxy:
        proxy.behave = behave
        pulling = other.start("pull", f"{proxy.name}/cli/two:1", stderr=subprocess.DEVNULL)
        time.sleep(1.5)
        pulling.send_signal(signal.SIGINT)
        assert pulling.wait(30) == 130
    problems = other.raw("check")
    assert problems.returncode == 1
    assert b"broken off" in problems.stdout
    other.ok("check", "--repair")
    assert other.ok("check") == "No problems found.\n"
