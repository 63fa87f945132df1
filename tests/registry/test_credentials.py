"""Credentials where Docker and Podman keep them, read, stored and erased."""

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from oci import credentials
from oci.credentials import CredentialError, Credentials

HUB = "https://index.docker.io/v1/"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def docker(tmp_path):
    path = tmp_path / "home" / ".docker" / "config.json"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def podman(tmp_path):
    path = tmp_path / "run" / "containers" / "auth.json"
    path.parent.mkdir(parents=True)
    return path


def auths(**entries):
    return json.dumps({"auths": {key.replace("__", ":"): e for key, e in entries.items()}})


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A credential helper `docker-credential-box` that keeps its secrets in a directory."""
    program = tmp_path / "bin" / "docker-credential-box"
    program.parent.mkdir()
    kept = tmp_path / "box"
    kept.mkdir()
    program.write_text(
        f"""#!{sys.executable}
import json, pathlib, sys, urllib.parse
said = sys.stdin.read()
with open({str(tmp_path / "calls")!r}, "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
name = json.loads(said)["ServerURL"] if sys.argv[1] == "store" else said.strip()
path = pathlib.Path({str(kept)!r}) / urllib.parse.quote(name, safe="")
if sys.argv[1] == "store":
    path.write_text(said)
elif not path.exists():
    print("credentials not found in native keychain")
    sys.exit(1)
elif sys.argv[1] == "get":
    print(path.read_text())
else:
    path.unlink()
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return kept


def test_without_any_file_there_are_none():
    assert credentials.find("docker.io", "library/debian") is None
    assert not credentials.erase("docker.io")


@pytest.mark.parametrize(
    "key",
    [
        HUB,
        "docker.io",
        "index.docker.io/v1/",
        "https://registry-1.docker.io/v2/",
        "index.docker.io",
    ],
)
def test_docker_hub_has_many_names_in_files(docker, key):
    docker.write_text(json.dumps({"auths": {key: {"auth": encoded("ann:a:b")}}}))
    assert credentials.find("docker.io", "library/debian") == Credentials("ann", "a:b")
    assert credentials.find("quay.io") is None


@pytest.mark.parametrize("key", ["lan:5000", "http://lan:5000", "https://lan:5000/v2/"])
def test_a_registry_may_be_kept_as_a_url(docker, key):
    docker.write_text(json.dumps({"auths": {key: {"auth": encoded("ann:x")}}}))
    assert credentials.find("lan:5000") == Credentials("ann", "x")
    assert credentials.find("lan") is None
    assert credentials.find("lan:500") is None


def test_the_most_specific_entry_of_podman_wins(podman):
    entries = {"quay.io": "all", "quay.io/team": "team", "quay.io/team/app": "app"}
    podman.write_text(
        json.dumps({"auths": {key: {"auth": encoded(f"{v}:x")} for key, v in entries.items()}})
    )
    for repository, user in (
        ("team/app", "app"),
        ("team/apple", "team"),
        ("teams/x", "all"),
        ("", "all"),
    ):
        assert credentials.find("quay.io", repository).username == user


def test_docker_is_read_before_podman_and_one_file_may_be_named_instead(
    docker, podman, tmp_path, monkeypatch
):
    podman.write_text(json.dumps({"auths": {"a.b": {"auth": encoded("podman:x")}}}))
    assert credentials.find("a.b").username == "podman"
    docker.write_text(json.dumps({"auths": {"a.b": {"auth": encoded("docker:x")}}}))
    assert credentials.find("a.b").username == "docker"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named"))
    assert credentials.find("a.b") is None
    credentials.store("a.b", Credentials("named", "x"))
    assert credentials.find("a.b").username == "named"
    assert (
        "docker:x"
        in base64.b64decode(json.loads(docker.read_text())["auths"]["a.b"]["auth"]).decode()
    )


def test_an_identity_token_is_found(docker):
    entry = {"auth": encoded("00000000-0000-0000-0000-000000000000:"), "identitytoken": "t"}
    docker.write_text(json.dumps({"auths": {"a.b": entry}}))
    assert credentials.find("a.b").identity_token == "t"


@pytest.mark.parametrize("registry", ["docker.io", "lan:5000"])
def test_what_is_stored_is_found_by_docker_and_by_us_and_erased_again(docker, registry):
    before = {"HttpHeaders": {"X": "é"}, "auths": {"other": {"auth": encoded("o:p")}}}
    docker.write_text(json.dumps(before))
    docker.chmod(0o644)
    mine = Credentials("ann", "pä:ss")
    assert credentials.store(registry, mine) == str(docker)
    assert credentials.find(registry) == mine
    written = json.loads(docker.read_text())
    assert written["HttpHeaders"] == {"X": "é"}
    key = HUB if registry == "docker.io" else registry
    assert written["auths"][key] == {"auth": encoded("ann:pä:ss")}
    assert stat.S_IMODE(docker.stat().st_mode) == 0o600
    assert os.listdir(docker.parent) == ["config.json"]
    assert credentials.erase(registry)
    assert not credentials.erase(registry)
    assert json.loads(docker.read_text()) == before


def test_a_new_file_is_for_its_owner_alone(tmp_path):
    old = os.umask(0)
    try:
        path = Path(credentials.store("a.b", Credentials("ann", "x")))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_is_a_link_stays_one(docker, tmp_path):
    target = tmp_path / "dotfiles.json"
    target.write_text("{}")
    docker.symlink_to(target)
    credentials.store("a.b", Credentials("ann", "x"))
    assert docker.is_symlink()
    assert "a.b" in target.read_text()


def test_logins_at_the_same_time_are_all_kept(docker):
    threads = [
        threading.Thread(target=credentials.store, args=(f"r{n}.b", Credentials("ann", str(n))))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(credentials.find(f"r{n}.b") == Credentials("ann", str(n)) for n in range(20))


@pytest.mark.parametrize("setting", [{"credsStore": "box"}, {"credHelpers": {"a.b": "box"}}])
def test_a_helper_has_the_secret_where_one_is_set(docker, helper, tmp_path, setting):
    docker.write_text(json.dumps(setting))
    assert credentials.find("a.b") is None
    mine = Credentials("ann", "secret")
    assert credentials.store("a.b", mine) == "docker-credential-box"
    assert credentials.find("a.b") == mine
    assert json.loads(docker.read_text())["auths"] == {"a.b": {}}
    assert "secret" not in docker.read_text() + (tmp_path / "calls").read_text()
    assert credentials.erase("a.b")
    assert credentials.find("a.b") is None
    assert os.listdir(helper) == []


def test_a_helper_is_asked_for_docker_hub_as_docker_does(docker, helper):
    docker.write_text('{"credsStore": "box"}')
    credentials.store("docker.io", Credentials("ann", "x"))
    assert [json.loads(each.read_text())["ServerURL"] for each in helper.iterdir()] == [HUB]
    assert credentials.find("docker.io", "library/debian") == Credentials("ann", "x")


def test_a_helper_may_have_an_identity_token(docker, helper):
    docker.write_text('{"credsStore": "box"}')
    credentials.store("a.b", Credentials("ann", "", "token"))
    assert credentials.find("a.b") == Credentials("", "", "token")


def test_a_helper_that_is_only_for_another_registry_is_not_asked(docker, helper, tmp_path):
    docker.write_text(json.dumps({"credHelpers": {"c.d": "box"}}))
    assert credentials.find("a.b") is None
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo secret; exit 3", "get failed with exit status 3"),
        ("echo secret", "answered what is not of its protocol"),
        ("echo '[\"secret\"]'", "answered what is not of its protocol"),
        ('echo \'{"Username":1,"Secret":"secret"}\'', "answered what is not of its protocol"),
    ],
)
def test_a_helper_that_is_broken_is_an_error_without_its_secret(docker, helper, script, says):
    docker.write_text('{"credsStore": "box"}')
    program = helper.parent / "bin" / "docker-credential-box"
    program.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(CredentialError, match=says) as caught:
        credentials.find("a.b")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "a/b", "-x", 7, "é"])
def test_a_name_that_is_no_helper_is_refused(docker, name):
    docker.write_text(json.dumps({"credsStore": name}))
    with pytest.raises(CredentialError, match="is no name of a credential helper"):
        credentials.find("a.b")


def test_a_helper_that_is_not_installed_is_named(docker):
    docker.write_text('{"credsStore": "nowhere"}')
    with pytest.raises(CredentialError, match="docker-credential-nowhere is not installed"):
        credentials.find("a.b")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"secret"',
        '{"auths": []}',
        '{"auths": {"a.b": "secret"}}',
        '{"auths": {"a.b": {"auth": "secret"}}}',
        '{"auths": {"a.b": {"auth": "/////w=="}}}',
        '{"auths": {"a.b": {"auth": ["secret"]}}}',
        '{"auths": {"a.b": {"username": "ann", "password": {"secret": 1}}}}',
        '{"auths": {"a.b": {"identitytoken": 1}}}',
        '{"credHelpers": 1}',
        "\xff",
        "[" * 1000,
    ],
)
def test_a_file_that_is_damaged_is_an_error_without_its_secrets(docker, text):
    docker.write_text(text, encoding="latin-1")
    with pytest.raises(CredentialError, match=r"config\.json") as caught:
        credentials.find("a.b")
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "  \n", "{}", '{"auths": null}', '{"auths": {"a.b": {}}}'])
def test_a_file_with_nothing_in_it_is_no_error(docker, text):
    docker.write_text(text)
    assert credentials.find("a.b") is None
    credentials.store("a.b", Credentials("ann", "x"))
    assert credentials.find("a.b") == Credentials("ann", "x")


def test_a_file_that_cannot_be_written_is_an_error_and_stays(docker):
    docker.mkdir()
    with pytest.raises(CredentialError, match=r"config\.json"):
        credentials.store("a.b", Credentials("ann", "x"))
    assert os.listdir(docker.parent) == ["config.json"]


def test_podman_and_docker_read_what_we_store(locked, needs, tmp_path, monkeypatch):
    needs("skopeo")
    from tests.registry.servers import ANN

    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    credentials.store(locked.name, ANN)
    asked = ["skopeo", "login", "--get-login", locked.name]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ann"
