"""What the image graph may raise; each message is one line for a person."""

from backends.errors import CowshedError


class StoreError(CowshedError):
    """The store refused; nothing was changed."""


class InvalidReference(StoreError):
    """A name that the reference grammar does not allow."""


class NotFound(StoreError):
    """No image or container answers to the name."""


class Ambiguous(StoreError):
    """An id prefix that matches more than one thing; the message lists them."""


class NameInUse(StoreError):
    """Another container has the name."""


class Conflict(StoreError):
    """Something else stands in the way: a container, a tag, a mount; the message names it."""


class NewerStore(StoreError):
    """The store was made by a newer version."""
