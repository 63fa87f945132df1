"""The commands diff and commit."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from stat import (
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    S_ISREG,
)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backends.errors import CowshedError
from cli import completion, output
from cli.session import find, opened, utf8

if TYPE_CHECKING:
    from backends.changes import Change, Compared
    from imagegraph.differences import Difference
    from imagegraph.model import Container

_LETTERS = {"added": b"A", "modified": b"C", "deleted": b"D"}
_WORDS = {"added": "Added", "modified": "Changed", "deleted": "Deleted"}
_TYPES = {
    S_IFREG: "file",
    S_IFDIR: "directory",
    S_IFLNK: "symlink",
    S_IFIFO: "fifo",
    S_IFSOCK: "socket",
    S_IFCHR: "character device",
    S_IFBLK: "block device",
}
# C0, DEL, and C1 as UTF-8 has it: all that a terminal takes for more than a character.
_CONTROL = rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]"
_BATCH = 1000
# The fields of the inner `config` of an image (image-spec, config.md) and Docker's.
_LISTS = frozenset(("Cmd", "Entrypoint", "Env", "OnBuild", "Shell"))
_OBJECTS = frozenset(("ExposedPorts", "Healthcheck", "Labels", "Volumes"))
_TEXTS = frozenset(("Hostname", "Domainname", "StopSignal", "User", "WorkingDir"))


def diff(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="CONTAINER|IMAGE", autocompletion=completion.anything)
    ],
    base: Annotated[
        str | None,
        typer.Argument(
            metavar="[IMAGE]", help="Compare with this image.", autocompletion=completion.images
        ),
    ] = None,
    stat: Annotated[
        bool, typer.Option("--stat", help="Only how many changes there are, files and bytes.")
    ] = False,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="text or json.")] = "text",
) -> None:
    """List what was changed in a container or image.

    Compared with the image that it was made of, or with IMAGE. One line for each change, in byte
    order: A (added), C (changed) or D (deleted), and the path. Paths are printed as the bytes that
    they are, except for control characters, which are octal as \\033: one line is one change.

    --format json is one array of objects with Kind (added, modified, deleted), Path, Type and Size;
    of a modified entry also OldType, OldSize and Changed, a list of type, mode, owner, mtime,
    xattrs, content, target, device, links. A path that is not UTF-8 has PathBytes too, its bytes in
    base64. With --stat it is one object: Added, Modified and Deleted, each with Entries, Files and
    Bytes; what was in a deleted directory counts.
    """
    if form not in ("text", "json"):
        raise typer.BadParameter("take text or json", param_hint="--format")
    with opened(ctx) as store:
        below = store.image(base) if base is not None else None
        thing = find(store, name)
        if stat:
            with store.compared(thing, below) as compared:
                _totals(compared, form)
        elif form == "json":
            with store.compared(thing, below) as compared:
                from imagegraph.differences import differences

                output.json_array(map(_document, differences(compared)))
        else:
            for lines in _batches(map(_line, store.diff(thing, below))):
                output.write_bytes(lines)


def _totals(compared: "Compared", form: str) -> None:
    from cli.formats import size_text
    from imagegraph.differences import totals

    found = totals(compared)
    if form == "json":
        documents = {
            kind.capitalize(): {
                "Entries": total.entries,
                "Files": total.files,
                "Bytes": total.bytes,
            }
            for kind, total in found.items()
        }
        output.line(output.json_text(documents, indent=4))
        return
    rows = [
        (_WORDS[kind], str(total.entries), str(total.files), size_text(total.bytes))
        for kind, total in found.items()
    ]
    output.table(("CHANGE", "ENTRIES", "FILES", "SIZE"), rows)


def _line(change: "Change") -> bytes:
    path = re.sub(_CONTROL, _octal, change.path)
    return b"%b /%b\n" % (_LETTERS[change.kind], path)


def _octal(match: re.Match[bytes]) -> bytes:
    return b"".join(b"\\%03o" % byte for byte in match[0])


def _batches(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, many at a time: a write for each would take longer than the comparison."""
    held: list[bytes] = []
    for line in lines:
        held.append(line)
        if len(held) == _BATCH:
            yield b"".join(held)
            held.clear()
    yield b"".join(held)


def _document(found: "Difference") -> dict[str, Any]:
    path = b"/" + found.path
    document: dict[str, Any] = {"Kind": found.kind, "Path": path.decode(errors="replace")}
    try:
        path.decode()
    except UnicodeDecodeError:
        from base64 import b64encode

        document["PathBytes"] = b64encode(path).decode()
    status = found.after or found.before
    assert status is not None
    document |= {"Type": _TYPES[S_IFMT(status.st_mode)], "Size": _size(status)}
    if found.before is not None and found.after is not None:
        document["OldType"] = _TYPES[S_IFMT(found.before.st_mode)]
        document["OldSize"] = _size(found.before)
        document["Changed"] = list(found.differs)
    return document


def _size(status: os.stat_result) -> int | None:
    """Bytes of a regular file; None for what has none."""
    return status.st_size if S_ISREG(status.st_mode) else None


def commit(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", autocompletion=completion.containers)],
    reference: Annotated[str | None, typer.Argument(metavar="[REPOSITORY[:TAG]]")] = None,
    author: Annotated[
        str, typer.Option("-a", "--author", metavar="TEXT", help="As 'Jo Doe <jo@example.org>'.")
    ] = "",
    message: Annotated[
        str, typer.Option("-m", "--message", metavar="TEXT", help="The comment in the history.")
    ] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "-c",
            "--change",
            metavar="INSTRUCTION",
            help="Apply a Dockerfile instruction to the image's config, e.g. 'ENV A=b'.",
        ),
    ] = None,
    pause: Annotated[
        bool,
        typer.Option(
            "-p/ ",
            "--pause/--no-pause",
            show_default=False,
            help="Freeze its processes for the snapshot, as is done by default; else what they"
            " write meanwhile may be there in part, later writes without earlier ones.",
        ),
    ] = True,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but the id.")] = False,
    iidfile: Annotated[
        str | None, typer.Option("--iidfile", metavar="FILE", help="Write the id to a file too.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="docker|oci", help="The form it is pushed in.")
    ] = "docker",
    squash: Annotated[
        bool, typer.Option("--squash", help="One layer that holds everything.")
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="FILE", help="Lay a JSON object over the image's config first."
        ),
    ] = None,
) -> None:
    """Make an image of a container as it is now.

    Prints the image's id. It is one snapshot, whatever the container weighs, and the container may
    be mounted and in use.
    """
    from imagegraph import config as configs
    from imagegraph.instructions import apply_all
    from imagegraph.reference import parse_tag_target

    if form not in ("docker", "oci"):
        raise typer.BadParameter("take docker or oci", param_hint="--format")
    target = parse_tag_target(reference) if reference is not None else None
    laid_over = _config(config) if config is not None else {}

    def changed(inner: Mapping[str, Any]) -> dict[str, Any]:
        return apply_all(configs.overlaid(inner, laid_over), changes or ())

    with opened(ctx) as store, _id_file(iidfile) as write_id:
        container = store.container(name)
        image, copied = store.commit(
            container,
            target,
            author=utf8("--author", author),
            comment=utf8("--message", message),
            change=changed,
            squash=squash,
            form=form,
            frozen=_frozen(container) if pause else contextlib.nullcontext,
        )
        write_id(f"sha256:{image.id}")
    if not quiet:
        for path in copied:
            output.note(f"The nested subvolume /{path.lstrip('/')} was copied into the image.")
    output.line(f"sha256:{image.id}")


def _frozen(container: "Container") -> Callable[[], contextlib.AbstractContextManager[None]]:
    """What freezes the container's processes, and thaws them; found only where it has a bundle."""
    from imagegraph.running import was_started

    if not was_started(container.id):
        return contextlib.nullcontext

    def frozen() -> contextlib.AbstractContextManager[None]:
        from runtime.stopping import paused

        return paused(container)

    return frozen


def _config(path: str) -> dict[str, Any]:
    """The JSON object in the file. Raises BadParameter."""
    import json

    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot read {path}: {error.strerror}", param_hint="--config"
        ) from None
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}", param_hint="--config") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{path} does not hold a JSON object", param_hint="--config")
    for field, value in found.items():
        if not _fits(field, value):
            raise typer.BadParameter(
                f"the {field} in {path} is not what an image's config has", param_hint="--config"
            )
    return found


def _fits(field: str, value: Any) -> bool:
    """Whether the value has the shape that Docker gives to the field, if it is one of Docker's."""
    if field in _LISTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if field in _OBJECTS:
        return isinstance(value, dict)
    return field not in _TEXTS or isinstance(value, str)


@contextlib.contextmanager
def _id_file(path: str | None) -> Iterator[Callable[[str], object]]:
    """What writes the id, opened first: no image is made whose id could not be written.

    A file that was not there is removed again if nothing was made.
    """
    if path is None:
        yield lambda text: None
        return
    fresh = not os.path.lexists(path)
    try:
        # What is in it is kept until there is something to put in its place.
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise CowshedError(f"cannot write {path}: {error.strerror}") from error
    done = False

    def write(text: str) -> None:
        nonlocal done
        done = True
        try:
            if file.seekable():
                file.truncate(0)
            file.write(text)
            file.flush()
        except OSError as error:
            reason = f"the image {text} is made, but {path} was not: {error.strerror}"
            raise CowshedError(reason) from error

    try:
        yield write
    finally:
        with contextlib.suppress(OSError):
            file.close()
        if fresh and not done:
            os.unlink(path)
