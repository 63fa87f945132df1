"""The store that the crash tests begin with, and the operations that are killed on it.

As a program, `scene.py ROOT OPERATION`: says ready, waits for a line, does it, says done.
"""

import importlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from imagegraph import listing, volumes
from imagegraph.check import check
from imagegraph.model import Image
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.oci import bundles
from tests.oci.archives import END, member
from tests.store.scenes import Files, add_image, commit, contents, document, write

IMPORTED = {"bin/sh": b"\x7fELF" * 3000, "etc/passwd": b"root", "home/a": b"a", "home/b": b""}
CHANGED = {"new/file": b"n" * 5000, "b": b"changed"}


Images = dict[str, tuple[tuple[str, ...], str | None, Files]]
"""Image id -> its tags, its parent and its files."""


class State(NamedTuple):
    """All that a user can see: tags and files of the images, and the containers."""

    images: Images
    containers: dict[str, tuple[str, str, Files]]


def state(store: Store) -> State:
    images = listing.images(store, every=True)
    containers = listing.containers(store, every=True)
    return State(
        {
            row.image.id: (
                tuple(map(str, row.tags)), row.image.parent, contents(store, row.image)
            )
            for row in images
        },
        {
            row.container.name: (
                row.container.id, row.container.image, contents(store, row.container)
            )
            for row in containers
        },
    )  # fmt: skip


def build(root: Path, backend: str) -> None:
    """A new store with `build_in`."""
    with Store.init(str(root), backend=backend) as store:
        build_in(store)


def build_in(store: Store) -> None:
    """base:1 <- (untagged) <- top:1, and moved:1; two containers of base:1 that were changed.

    Beside the store lies an archive of an image of two layers that is called moved:1, too.
    """
    base = add_image(store, {"a": b"1", "b": b"2" * 9000}, "base:1")
    [work] = store.create(base, name="work")
    write(store, work, CHANGED)
    middle = commit(store, work)
    [above] = store.create(middle)
    write(store, above, {"c": b"3"})
    commit(store, above, "top:1")
    store.remove_container(above)
    add_image(store, {"d": b"4"}, "moved:1")
    [nested] = store.create(base, name="nested")
    if store.backend.name == "btrfs":
        with store.open_tree(nested) as tree:
            for inner in ("sub", "sub/deeper"):
                command = ["btrfs", "-q", "subvolume", "create", f"{tree}/{inner}"]
                subprocess.run(command, check=True)
    write(store, nested, {"sub/x": b"x" * 7000, "sub/deeper/y": b"y"})
    layers = [_tar(files) for files in (IMPORTED, CHANGED)]
    bundles.written(bundles.docker(*layers, name="moved:1"), Path(f"{store.root}.tar"))
    assert check(store) == []


def _tar(files: Files) -> bytes:
    return b"".join(member(name.encode(), data) for name, data in files.items()) + END


def archive() -> bytes:
    """IMPORTED as a tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in IMPORTED.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def import_tar(store: Store) -> Image:
    from oci.layer import apply

    def fill(tree: str) -> int:
        return apply(io.BytesIO(archive()), tree).size

    return store.add_image(fill, document(), parse("moved:1"))


def import_small(store: Store) -> None:
    import_tar(store)


def load(store: Store) -> None:
    from oci import loading

    loading.load(store, f"{store.root}.tar")


def identify(store: Store) -> None:
    from oci import identity

    identity.identify(store, store.image("top:1"))


def create(store: Store) -> None:
    store.create(store.image("base:1"), name="web", count=3)


def commit_plain(store: Store) -> None:
    store.commit(store.container("work"), parse("moved:1"))


def commit_nested(store: Store) -> None:
    store.commit(store.container("nested"), parse("moved:1"))


def commit_squashed(store: Store) -> None:
    store.commit(store.container("work"), parse("moved:1"), squash=True)


def tag(store: Store) -> None:
    store.tag(store.image("top:1"), parse("moved:1"))


def rmi(store: Store) -> None:
    store.remove_image("top:1")


def rm(store: Store) -> None:
    store.remove_container(store.container("work"))


def rm_nested(store: Store) -> None:
    store.remove_container(store.container("nested"))


def rename(store: Store) -> None:
    store.rename(store.container("work"), "web")


OPERATIONS: dict[str, Callable[[Store], None]] = {
    operation.__name__: operation
    for operation in (
        import_small, load, create, commit_plain, commit_nested, commit_squashed, tag, rmi, rm,
        rm_nested, rename,
    )
}  # fmt: skip


def build_volumes(store: Store) -> None:
    """The volumes hay and loose, both empty; a container herd that has hay and one of its own."""
    files = {f"data/{number}": b"%d" % number for number in range(3)}
    full = add_image(store, {**files, "data/sub/file": b"f" * 9000}, "full:1", Volumes={"/x": {}})
    volumes.create(store, "loose")
    store.create(full, name="herd", options={"HostConfig": {"Binds": ["hay:/data"]}})


def volume_create(store: Store) -> None:
    volumes.create(store, "fodder")


def volume_rm(store: Store) -> None:
    volumes.remove(store, volumes.find(store, "loose"))


def volume_fill(store: Store) -> None:
    with store.open_tree(store.container("herd")) as tree:
        root = os.open(tree, os.O_PATH)
        try:
            volumes.fill(store, volumes.find(store, "hay"), root, "/data")
        finally:
            os.close(root)


def create_with_volumes(store: Store) -> None:
    options = {"HostConfig": {"Binds": ["fodder:/f"]}}
    store.create(store.image("full:1"), name="web", count=2, options=options)


def rm_with_volumes(store: Store) -> None:
    store.remove_container(store.container("herd"), volumes=True)


VOLUME_OPERATIONS: dict[str, Callable[[Store], None]] = {
    operation.__name__: operation
    for operation in (
        volume_create, volume_rm, volume_fill, create_with_volumes, rm_with_volumes,
    )
}  # fmt: skip


def done(name: str, before: State) -> Callable[[State], bool]:
    """Whether a state is the one that the operation, begun in `before`, leads to."""

    def without(images: Images, gone: str) -> Images:
        """The images, none of them having the tag."""
        return {
            id: (tuple(tag for tag in named if tag != gone), parent, files)
            for id, (named, parent, files) in images.items()
        }

    def added(after: State, parent: str | None, files: Files) -> bool:
        fresh = after.images.keys() - before.images.keys()
        kept = {id: image for id, image in after.images.items() if id in before.images}
        return (
            [after.images[id] for id in fresh] == [(("moved:1",), parent, files)]
            and kept == without(before.images, "moved:1")
            and after.containers == before.containers
        )

    def is_done(after: State) -> bool:
        work, nested = before.containers["work"], before.containers["nested"]
        containers = dict(before.containers)
        match name:
            case "import_small":
                return added(after, None, IMPORTED)
            case "load":
                return added(after, None, {**IMPORTED, **CHANGED})
            case "commit_plain":
                return added(after, work[1], work[2])
            case "commit_squashed":
                return added(after, None, work[2])
            case "commit_nested":
                return added(after, nested[1], nested[2])
            case "create":
                base = next(id for id, image in before.images.items() if "base:1" in image[0])
                new = {id: row for id, row in after.containers.items() if id not in containers}
                return (
                    sorted(new) == ["web-1", "web-2", "web-3"]
                    and all(row[1:] == (base, before.images[base][2]) for row in new.values())
                    and containers.items() <= after.containers.items()
                    and after.images == before.images
                )
            case "tag":
                tags = {id: image[0] for id, image in after.images.items() if image[0]}
                top = next(id for id, image in before.images.items() if "top:1" in image[0])
                return (
                    tags[top] == ("moved:1", "top:1")
                    and without(after.images, "moved:1") == without(before.images, "moved:1")
                    and after.containers == before.containers
                )
            case "rmi":
                top = next(id for id, image in before.images.items() if "top:1" in image[0])
                gone = {top, before.images[top][1]}
                rest = {id: image for id, image in before.images.items() if id not in gone}
                return after == State(rest, containers)
            case "rm" | "rm_nested":
                del containers["work" if name == "rm" else "nested"]
                return after == State(before.images, containers)
            case _:
                containers["web"] = containers.pop("work")
                return after == State(before.images, containers)

    return is_done


def main() -> None:
    root, name = sys.argv[1:]
    # Imported now, so that what follows is the operation and nothing else.
    modules = (
        "backends.btrfs backends.copy backends.zfs imagegraph.mounting oci.identity oci.loading"
        " imagegraph.filling"
    )
    for module in modules.split():
        importlib.import_module(module)
    if name.startswith("init-"):
        print("ready", flush=True)
        sys.stdin.readline()
        with Store.init(root, backend=name.removeprefix("init-"), size=_size(name)) as store:
            add_image(store, {"a": b"1"}, "base:1")
    else:
        with Store.open(root) as store:
            print("ready", flush=True)
            sys.stdin.readline()
            {**OPERATIONS, **VOLUME_OPERATIONS, "identify": identify}[name](store)
    os.write(1, b"done\n")


def _size(name: str) -> int | None:
    return 256 << 20 if name == "init-loopback" else None


if __name__ == "__main__":
    main()
