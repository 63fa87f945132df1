"""One of several processes that use a root at once: `race.py ROOT JOB SECONDS SEED`.

It waits for a line on its input, works, and prints one JSON object: what it was told, and every
error that is not part of the game.
"""

import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from backends.errors import CowshedError, VolumeNotFound
from imagegraph import listing, removal, volumes
from imagegraph.check import check
from imagegraph.errors import Conflict, NameInUse, NotFound
from imagegraph.model import Container
from imagegraph.reference import parse
from imagegraph.store import Store
from oci import loading
from oci.identity import identify
from tests.oci import bundles
from tests.oci.archives import member
from tests.store.scenes import add_image, commit, write

# What a neighbour's work may do to ours, and says so.
EXPECTED = (Conflict, NotFound, NameInUse)


def step(store: Store, rng: random.Random, mine: list[Container]) -> str:
    what = rng.choice(
        "create create commit commit rm rmi tag import load load identify list prune volume".split()
    )
    images = store.graph.images()
    if what == "import" or not images:
        add_image(store, {"file": rng.randbytes(100)}, f"shared:{rng.randrange(4)}")
    elif what == "load":
        load(store, rng.randrange(4), f"shared:{rng.randrange(4)}")
    elif what == "identify":
        identify(store, rng.choice(images))
    elif what == "create":
        binds = rng.choice([[], ["shared0:/x"], [f"shared{rng.randrange(4)}:/x"]])
        options = {"Config": {"Volumes": {"/y": {}}}, "HostConfig": {"Binds": binds}}
        given = options if rng.random() < 0.5 else {}
        mine += store.create(rng.choice(images), count=rng.randint(1, 3), options=given)
    elif what == "commit" and mine:
        container = rng.choice(mine)
        write(store, container, {f"d/{rng.randrange(9)}": rng.randbytes(50)})
        commit(store, container, f"shared:{rng.randrange(4)}" if rng.random() < 0.5 else None)
    elif what == "rm" and mine:
        container = mine.pop(rng.randrange(len(mine)))
        store.remove_container(container, volumes=rng.random() < 0.7)
    elif what == "volume":
        work_on_volume(store, rng)
    elif what == "rmi":
        name = rng.choice([rng.choice(images).id, f"shared:{rng.randrange(4)}"])
        store.remove_image(name, force=rng.random() < 0.5, prune=rng.random() < 0.8)
    elif what == "tag":
        store.tag(rng.choice(images), parse(f"shared:{rng.randrange(4)}"))
    elif what == "list":
        listing.images(store, every=True)
        listing.containers(store, every=True)
        listing.disk_usage(store)
        for problem in check(store, repair=rng.random() < 0.3):
            # A neighbour's listing may read a layer that another one wants to remove.
            if not problem.what.endswith("because it was in use"):
                raise CowshedError(f"check: {problem}")
    elif what == "prune":
        removal.prune(store, wanted=lambda thing: not isinstance(thing, Container))
    return what


def work_on_volume(store: Store, rng: random.Random) -> None:
    volume = volumes.create(store, f"shared{rng.randrange(4)}")
    if images := store.graph.images():
        # Image and volume may be removed meanwhile.
        with contextlib.suppress(VolumeNotFound), store.open_tree(rng.choice(images)) as tree:
            root = os.open(tree, os.O_PATH)
            try:
                volumes.fill(store, volume, root, "/")
            finally:
                os.close(root)
    if rng.random() < 0.5:
        volumes.remove(store, volume)
    elif rng.random() < 0.2:
        volumes.prune(store)


def load(store: Store, height: int, name: str) -> None:
    """Bring in an image that has its layers in common with all lower ones."""
    layers = [bundles.layer(member(b"%d" % number, b"x")) for number in range(height + 1)]
    with tempfile.NamedTemporaryFile() as file:
        bundles.written(bundles.docker(*layers, name=name), Path(file.name))
        loading.load(store, file.name)


def work(store: Store, seconds: float, seed: int) -> dict[str, object]:
    rng, mine = random.Random(seed), list[Container]()
    done, refused, errors = Counter[str](), Counter[str](), list[str]()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            done[step(store, rng, mine)] += 1
        except EXPECTED as error:
            refused[type(error).__name__] += 1
        except CowshedError as error:
            errors.append(f"{type(error).__name__}: {error}")
    for container in mine[::2]:
        store.remove_container(container)
    kept = {container.id: container.name for container in mine[1::2]}
    return {"done": done, "refused": refused, "errors": errors, "kept": kept}


def race_for_a_name(store: Store, rounds: int) -> dict[str, object]:
    image, won, lost = store.image("base:1"), list[str](), 0
    for number in range(rounds):
        try:
            won += [container.name for container in store.create(image, name=f"name{number}")]
        except NameInUse:
            lost += 1
    return {"won": won, "lost": lost}


def remove_everything(store: Store) -> dict[str, object]:
    """Remove every container and image there is, in an order of our own, with all the others."""
    rng, errors = random.Random(), list[str]()
    containers, images = store.graph.containers(), store.graph.images()
    rng.shuffle(containers)
    removed = 0
    for container in containers:
        try:
            store.remove_container(container)
            removed += 1
        except NotFound:
            continue
        except (CowshedError, OSError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    for image in images:
        try:
            store.remove_image(image.id, force=True)
        except (NotFound, Conflict, VolumeNotFound):
            continue
    return {"removed": removed, "errors": errors}


def main() -> None:
    root, job, amount, seed = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    if job.startswith("init"):
        with Store.init(root, backend=job.partition("-")[2]) as store:
            answer: dict[str, object] = {"backend": store.backend.name}
            add_image(store, {"a": seed.encode()}, f"made:{seed}")
    else:
        with Store.open(root) as store:
            match job:
                case "work":
                    answer = work(store, float(amount), int(seed))
                case "name":
                    answer = race_for_a_name(store, int(amount))
                case "remove":
                    answer = remove_everything(store)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
