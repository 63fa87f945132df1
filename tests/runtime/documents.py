"""The configuration of a container, as it is computed for some options."""

from typing import Any

from runtime.mounts import Bind
from runtime.process import process
from runtime.spec import spec
from runtime.users import Identity

ROOT = Identity(0, 0, (0,), "/root", "root")
ALICE = Identity(1000, 1000, (1000, 29), "/home/alice", "alice")


def made(
    host: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    *,
    identity: Identity = ROOT,
    binds: tuple[Bind, ...] = (),
    cgroup: str | None = "/a/b",
    **more: Any,
) -> Any:
    host, config = host or {}, {"Cmd": ["true"], **(config or {})}
    more = {"terminal": False, **more}
    return spec(
        hostname="cow",
        tree="/the/tree",
        host=host,
        binds=binds,
        process=process(config, host, identity, hostname="cow", cgroup=cgroup, **more),
        cgroup=cgroup,
    )


def mounted(document: Any) -> dict[str, Any]:
    return {mount["destination"]: mount for mount in document["mounts"]}
