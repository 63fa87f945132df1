"""What the way of images in and out may raise, beside the errors of the backends."""

from backends.errors import CowshedError


class ArchiveError(CowshedError):
    """An archive is damaged, cut short, of an unknown kind, or asks for what is not allowed."""
