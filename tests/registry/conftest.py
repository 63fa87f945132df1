import contextlib
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oci.digest import digest
from oci.registry.client import Registry
from oci.registry.retry import Clock
from oci.registry.transport import Timeouts
from tests.conftest import require
from tests.registry.servers import FaultProxy, Served, registry


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the proxies nor the credentials of whoever runs the tests."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "home" / ".docker"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A registry without TLS and passwords, which all tests share: take names of your own."""
    require("docker-registry")
    with registry(tmp_path_factory.mktemp("plain")) as served:
        yield served


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A registry that lets in ANN only."""
    require("docker-registry")
    with registry(tmp_path_factory.mktemp("locked"), password=True) as served:
        yield served


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A registry with TLS, by an authority that nobody knows."""
    require("docker-registry")
    require("openssl")
    with registry(tmp_path_factory.mktemp("secure"), secure=True) as served:
        yield served


@pytest.fixture
def proxy(plain: Served) -> Iterator[FaultProxy]:
    """A proxy before the plain registry; everything passes until told otherwise."""
    with FaultProxy(plain.name) as started:
        yield started


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that were made before something was tried again; nobody sleeps."""
    return []


@pytest.fixture
def connect(pauses: list[float]) -> Iterator[Callable[..., Registry]]:
    """Registry by name, which ends with the test, does not sleep, and waits a second at most."""
    with contextlib.ExitStack() as opened:

        def connected(name: str, **options: object) -> Registry:
            short = Timeouts(connect=2, read=1, document=1, commit=2)
            clock = Clock(time.monotonic, pauses.append)
            options = {"timeouts": short, "clock": clock, "certificates": (), **options}
            return opened.enter_context(Registry(name, **options))

        yield connected


@pytest.fixture(scope="session")
def blob(plain: Served) -> tuple[bytes, str]:
    """The content and the digest of a blob of 16 KiB in the repository `base` of `plain`."""
    data = bytes(range(256)) * 64
    with Registry(plain.name) as registry:
        return data, put(registry, "base", data)


def put(to: Registry, repository: str, data: bytes, **options: object) -> str:
    """Upload a blob; its digest."""

    def opened(offset: int) -> io.BytesIO:
        return io.BytesIO(data[offset:])

    to.upload(repository, digest(data), len(data), opened, **options)
    return digest(data)
