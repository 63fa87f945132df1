"""Whether lists grow gently: `images` and `ps` with 10,000 rows in the graph against 10."""

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator

from measuring import COWSHED, Figure, in_turns, ratio, timed

from imagegraph.store import DATABASE, Store

FEW, MANY = 10, 10_000
CHAIN = 10


def rows(few: str, many: str) -> Iterator[Figure]:
    """Whole processes; the rows are put into the graph as they are, without volumes."""
    for root, count in ((few, FEW), (many, MANY)):
        Store.init(root, backend="vfs").close()
        _populate(f"{root}/{DATABASE}", count)
    for command in (("images",), ("ps", "-a")):
        for form, bound in (("json", 5.0), ("table", None)):
            shown = (*command, "--format", form)
            measured = [timed(COWSHED, "--root", root, *shown) for root in (many, few)]
            long, short = in_turns(7, *measured)
            name = f"{' '.join(shown)}, 10,000 rows / 10"
            yield ratio(name, bound, ("10,000", long), ("10", short))


def _populate(path: str, count: int) -> None:
    """`count` images in chains of ten layers, each with a tag and a container."""
    database = sqlite3.connect(path)
    below: tuple[str | None, str | None] = None, None
    with database:
        for number in range(count):
            layer, image, now = secrets.token_hex(32), secrets.token_hex(32), time.time_ns()
            parent_layer, parent = below if number % CHAIN else (None, None)
            database.execute(
                "INSERT INTO layers (id, parent, state, created, size)"
                " VALUES (?, ?, 'ready', ?, ?)",
                (layer, parent_layer, now, 1_000_000 + number),
            )
            database.execute(
                "INSERT INTO images (id, layer, parent, created, config) VALUES (?, ?, ?, ?, ?)",
                (image, layer, parent, now, _config(number % CHAIN)),
            )
            database.execute(
                "INSERT INTO tags VALUES (?, 'latest', ?)",
                (f"docker.io/bench/image-{number}", image),
            )
            database.execute(
                "INSERT INTO containers (id, name, image, state, created, options)"
                " VALUES (?, ?, ?, 'ready', ?, ?)",
                (secrets.token_hex(32), f"container-{number}", image, now, _options()),
            )
            below = layer, image
    database.close()


def _config(depth: int) -> bytes:
    """A config as an image has it after `depth` commits."""
    created = "2026-01-02T03:04:05.678901234Z"
    steps = [
        {"created": created, "created_by": "/bin/sh -c apt-get install -y something", "comment": ""}
        for _ in range(depth + 1)
    ]
    environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    document = {
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": environment, "Cmd": ["bash"], "Labels": {"tier": "bench"}},
        "history": steps,
    }
    return json.dumps(document).encode()


def _options() -> str:
    return json.dumps({"Config": {"Cmd": ["sleep", "infinity"], "Env": ["TIER=bench"]}})
