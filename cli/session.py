"""What the options before the command say, and the store that they name."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from backends.errors import CowshedError
from cli import output

if TYPE_CHECKING:
    from imagegraph.model import Container, Image
    from imagegraph.store import Store


class Session:
    """The options before the command. `verbose` counts the -v; `root` None means the default."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.backend: str | None = None
        self.verbose = 0


def session(ctx: typer.Context) -> Session:
    found = ctx.obj
    assert isinstance(found, Session)
    return found


@contextlib.contextmanager
def opened(ctx: typer.Context) -> Iterator["Store"]:
    """The store of this session, while the context lasts."""
    from imagegraph.store import Store

    options = session(ctx)
    known_backend(options.backend)
    with Store.open(root_of(options), backend=options.backend) as store:
        yield traced(store, options)


def known_backend(name: str | None) -> None:
    """Refuse what is no backend, before anything is made. Raises BadParameter."""
    if name is None:
        return
    from backends.detect import NAMES

    if name not in NAMES:
        raise typer.BadParameter(
            f"there is no backend {name!r}: take {', '.join(NAMES)}", param_hint="--backend"
        )


def root_of(options: Session) -> str:
    """Where the store is or will be."""
    from imagegraph.store import DEFAULT_ROOT

    return DEFAULT_ROOT if options.root is None else options.root


def traced(store: "Store", options: Session) -> "Store":
    """The store, telling of each backend operation if -v was given."""
    if options.verbose:
        from backends.traced import traced as trace

        store.backend = trace(store.backend, output.note)
    return store


def each(names: Iterable[str], act: Callable[[str], None]) -> None:
    """Do something to each of several things; one that fails is said, and the rest goes on.

    Ends the command with 1 if any failed.
    """
    failed = False
    for name in names:
        try:
            act(name)
        except CowshedError as error:
            output.fail(str(error))
            failed = True
    if failed:
        raise typer.Exit(1)


def find(store: "Store", name: str) -> "Container | Image":
    """The container of that name or id, or else the image. Raises NotFound, Ambiguous."""
    from imagegraph.errors import InvalidReference, NotFound

    with contextlib.suppress(NotFound):
        return store.container(name)
    try:
        return store.image(name)
    except (NotFound, InvalidReference):
        raise NotFound(
            f"no container and no image is called {name}: cowshed ps -a and cowshed images"
            " list those there are"
        ) from None


def utf8(name: str, text: str) -> str:
    """The text, which is going into a JSON document. Raises BadParameter if it is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is not UTF-8", param_hint=name) from None
    return text


@contextlib.contextmanager
def option(name: str) -> Iterator[None]:
    """What is refused in here was the value of an option: wrong usage, exit status 2."""
    from imagegraph.errors import StoreError

    try:
        yield
    except StoreError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None
