"""--filter key=value: what images and containers a listing or a prune is about.

Values of one key widen the choice where a thing has one such property (reference, name, id,
ancestor, status), and narrow it where it has many (label); different keys narrow it. As in Docker.
"""

import fnmatch
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from cli.configs import Configs, inner, labels

if TYPE_CHECKING:
    from imagegraph.model import Container, ContainerSummary, Image, ImageSummary
    from imagegraph.reference import Reference
    from imagegraph.store import Store

STATUSES = ("created", "mounted", "running", "paused", "exited", "restarting", "removing", "dead")


def bad_filter(reason: str) -> typer.BadParameter:
    return typer.BadParameter(reason, param_hint="--filter")


def parse(given: Sequence[str] | None, keys: Sequence[str]) -> dict[str, list[str]]:
    """Filters by their key. Raises BadParameter for a key that is not among `keys`."""
    filters: dict[str, list[str]] = {}
    for text in given or ():
        # label!=x has its mark before the equals sign.
        key, equals, value = text.partition("=")
        if not equals or key not in keys:
            raise bad_filter(f"{text!r} is not KEY=VALUE with a key of {', '.join(keys)}")
        filters.setdefault(key, []).append(value)
    return filters


def truth(text: str) -> bool:
    """As Go's strconv.ParseBool reads it."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise bad_filter(f"{text!r} is neither true nor false")


def labelled(labels: Mapping[str, str], wanted: str) -> bool:
    """Whether `labels` have `wanted`: NAME or NAME=VALUE."""
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def named_like(tag: "Reference", pattern: str) -> bool:
    """Whether the pattern fits the name, or name and tag; its "*" stops at "/"."""
    full = f"{tag.repository}:{tag.tag}"
    names = (str(tag), tag.familiar, tag.repository, full)
    return any(_alike(name, pattern) for name in names)


def _alike(text: str, pattern: str) -> bool:
    parts, patterns = text.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def image_filter(
    store: "Store", filters: Mapping[str, list[str]]
) -> "Callable[[ImageSummary], ImageSummary | None]":
    """What is left of an image's row under the filters: fewer tags, or None.

    Raises NotFound for the images of before= and since=.
    """
    since = [store.image(name).created for name in filters.get("since", ())]
    before = [store.image(name).created for name in filters.get("before", ())]
    until = [_moment(text) for text in filters.get("until", ())]
    dangling = [truth(text) for text in filters.get("dangling", ())]
    named, patterns = filters.get("label", []), filters.get("reference", [])

    def chosen(summary: "ImageSummary") -> "ImageSummary | None":
        created = summary.image.created
        if (
            any(created <= moment for moment in since)
            or any(created >= moment for moment in before + until)
            or any(summary.dangling != wanted for wanted in dangling)
        ):
            return None
        if named:
            own = labels(inner(summary.image.config))
            if not all(labelled(own, label) for label in named):
                return None
        if not patterns:
            return summary
        tags = tuple(
            tag for tag in summary.tags if any(named_like(tag, pattern) for pattern in patterns)
        )
        return summary._replace(tags=tags) if tags else None

    return chosen


def container_filter(
    store: "Store", filters: Mapping[str, list[str]]
) -> "Callable[[ContainerSummary], bool]":
    """Whether a container's row stays under the filters.

    Raises NotFound for the images of ancestor= and the containers of before= and since=, and
    BadParameter for what no filter can be.
    """
    names = [_pattern(text) for text in filters.get("name", ())]
    ids, named = filters.get("id", []), filters.get("label", [])
    statuses = filters.get("status", [])
    for status in statuses:
        if status not in STATUSES:
            raise bad_filter(f"there is no status {status!r}: take {', '.join(STATUSES)}")
    before = [store.container(name).created for name in filters.get("before", ())]
    since = [store.container(name).created for name in filters.get("since", ())]
    below = _descendants(store, filters["ancestor"]) if "ancestor" in filters else None
    configs = Configs(store)

    def chosen(summary: "ContainerSummary") -> bool:
        container = summary.container
        return (
            (not names or any(pattern.search(container.name) for pattern in names))
            and (not ids or any(container.id.startswith(id) for id in ids))
            and (not statuses or summary.status in statuses)
            and (below is None or container.image in below)
            and all(container.created < moment for moment in before)
            and all(container.created > moment for moment in since)
            and all(labelled(configs.labels(container), label) for label in named)
        )

    return chosen


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text.removeprefix("/"))
    except re.error as error:
        raise bad_filter(f"{text!r} is not a pattern: {error}") from None


def _descendants(store: "Store", names: Sequence[str]) -> set[str]:
    """Ids of the images and of all that were committed from them."""
    found = {store.image(name).id for name in names}
    children: dict[str, list[str]] = {}
    for image in store.graph.images():
        if image.parent:
            children.setdefault(image.parent, []).append(image.id)
    pending = list(found)
    while pending:
        more = children.get(pending.pop(), [])
        found.update(more)
        pending += more
    return found


def prune_filter(
    store: "Store", filters: Mapping[str, list[str]]
) -> "Callable[[Image | Container], bool]":
    """Whether an image or a container may go under label=, label!= and until=."""
    from imagegraph.model import Container

    until = [_moment(text) for text in filters.get("until", ())]
    wanted, kept = filters.get("label", []), filters.get("label!", [])
    configs = Configs(store)

    def chosen(thing: "Image | Container") -> bool:
        if any(thing.created >= moment for moment in until):
            return False
        if not (wanted or kept):
            return True
        own = configs.labels(thing) if isinstance(thing, Container) else labels(inner(thing.config))
        return all(labelled(own, label) for label in wanted) and not any(
            labelled(own, label) for label in kept
        )

    return chosen


def _moment(text: str) -> int:
    from cli.session import option
    from imagegraph.times import parse_time

    with option("--filter"):
        return parse_time(text, time.time_ns())
