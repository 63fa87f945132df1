"""What `inspect` shows: Docker's field names, and where the volume is."""

from typing import TYPE_CHECKING, Any

from imagegraph import config as configs
from imagegraph import volumes
from imagegraph.listing import container_size, image_size
from imagegraph.model import Container, Image
from imagegraph.mounting import mounted
from imagegraph.reference import in_repository
from imagegraph.running import state
from imagegraph.times import rfc3339

if TYPE_CHECKING:
    from imagegraph.store import Store


def image(store: "Store", found: Image) -> dict[str, Any]:
    """The image as `docker image inspect` prints it, with Digest, Backend and Volume."""
    document = configs.load(found.config)
    tags = store.graph.tags(found.id)
    layers = store.graph.chain(found.layer)
    size = image_size(store, found)
    steps = document.get("history") or [{}]
    return {
        "Id": f"sha256:{found.id}",
        "RepoTags": [str(tag) for tag in tags],
        "RepoDigests": [
            str(in_repository(manifest.repository)._replace(digest=manifest.digest))
            for manifest in store.graph.manifests(found.id)
        ],
        "Digest": found.digest or "",
        "Parent": f"sha256:{found.parent}" if found.parent else "",
        "Comment": steps[-1].get("comment") or "",
        "Created": document.get("created") or rfc3339(found.created),
        "Author": document.get("author") or "",
        "Config": document.get("config") or {},
        "Architecture": document.get("architecture") or "",
        "Variant": document.get("variant") or "",
        "Os": document.get("os") or "",
        "Size": size,
        "VirtualSize": size,
        "RootFS": {
            "Type": "layers",
            # Unknown until something needs the digests of a commit.
            "Layers": [layer.diff_id for layer in reversed(layers) if layer.diff_id],
        },
        "Backend": store.backend.name,
        "Volume": store.backend.location(store.volume(found)),
    }


def container(store: "Store", found: Container, *, size: bool = False) -> dict[str, Any]:
    """The container as `docker container inspect` prints it, with Backend and Volume.

    `size` adds SizeRw and SizeRootFs, in bytes, which takes a diff.
    """
    base = store.graph.image(found.image)
    inner = configs.load(base.config).get("config") or {} if base else {}
    merged = configs.overlaid(inner, found.options.get("Config", {}))
    command = [*(merged.get("Entrypoint") or []), *(merged.get("Cmd") or [])]
    places = mounted(found.id)
    shown = {
        "Id": found.id,
        "Created": rfc3339(found.created),
        "Path": command[0] if command else "",
        "Args": command[1:],
        "State": _state(store, found),
        "Image": f"sha256:{found.image}",
        "Name": f"/{found.name}",
        "Mountpoints": places,
        "Mounts": [
            {
                "Type": "volume",
                "Name": each.volume.name,
                "Source": store.backend.location(volumes.kept(each.volume)),
                "Destination": each.target,
                "Driver": "local",
                "RW": not each.read_only,
            }
            for each in volumes.attached(store, found)
        ],
        "HostConfig": {
            "StorageOpt": {"size": str(found.size)} if found.size is not None else {},
            **found.options.get("HostConfig", {}),
        },
        "Config": merged,
        "Backend": store.backend.name,
        "Volume": store.backend.location(store.volume(found)),
    }
    if size and base:
        own = container_size(store, found)
        shown |= {"SizeRw": own, "SizeRootFs": own + image_size(store, base)}
    return shown


def _state(store: "Store", found: Container) -> dict[str, Any]:
    seen = state(store.root, found.id)
    never = "0001-01-01T00:00:00Z"
    return {
        "Status": seen.status,
        "Running": seen.lives,
        "Paused": seen.status == "paused",
        "Pid": seen.pid or 0,
        "ExitCode": seen.exit_code or 0,
        "StartedAt": never if seen.started is None else rfc3339(seen.started),
        "FinishedAt": never if seen.finished is None else rfc3339(seen.finished),
    }
