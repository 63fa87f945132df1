"""What may go wrong with a process in a container; each message is one line for a person."""

import re

from backends.errors import CowshedError


class RunError(CowshedError):
    """The container could not be run; `status` is what Docker's commands exit with then."""

    status: int = 125


class Running(RunError):
    """The container runs already."""


class NotRunning(RunError):
    """The container has no process."""


class NotExecutable(RunError):
    """The command is there, and cannot be run."""

    status = 126


class CommandNotFound(RunError):
    """The command is not there."""

    status = 127


def not_started(reason: str) -> RunError:
    """The error for what crun or runc said of a process that it could not start.

    Nothing but the text says which it is, as for Docker (moby, daemon/start.go).
    """
    if not re.search(r"\bexec(utable)?\b", reason):
        return RunError(reason)
    if re.search("not found|no such file", reason, re.IGNORECASE):
        return CommandNotFound(reason)
    if re.search("open executable|permission denied|exec format error", reason, re.IGNORECASE):
        return NotExecutable(reason)
    return RunError(reason)
