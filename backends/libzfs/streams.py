"""Send and receive: streams between datasets and file descriptors.

The file descriptor becomes the command's own stdout or stdin, so no byte passes through Python.
"""

from collections.abc import Collection, Mapping

from backends.libzfs import run
from backends.libzfs.enums import SendFlag
from backends.libzfs.errors import from_stderr, not_available

_FLAGS = {
    SendFlag.REPLICATE: "-R",
    SendFlag.PROPS: "-p",
    SendFlag.DRYRUN: "-n",
    SendFlag.PARSABLE: "-P",
    SendFlag.LARGEBLOCK: "-L",
    SendFlag.EMBED_DATA: "-e",
    SendFlag.COMPRESS: "-c",
    SendFlag.RAW: "-w",
    SendFlag.BACKUP: "-b",
    SendFlag.HOLDS: "-h",
    SendFlag.SAVED: "-S",
    SendFlag.PROGRESSASTITLE: "-V",
    SendFlag.DEDUP: "-D",
}


def _options(flags: Collection[SendFlag]) -> list[str]:
    if not isinstance(flags, set | frozenset):
        raise ValueError("flags must be passed as a set")
    verbose = {SendFlag.VERBOSITY, SendFlag.PROGRESS} & set(flags)
    return [option for flag, option in _FLAGS.items() if flag in flags] + ["-v"] * bool(verbose)


def _send(argv: list[str], fd: int, flags: Collection[SendFlag]) -> None:
    """Run `zfs send` into `fd`; a dry run writes nothing there, its report goes to stderr."""
    if SendFlag.DRYRUN in flags:
        done = run.attempt(argv)
        report = done.stdout + ("" if done.status else done.stderr)
    else:
        done = run.attempt(argv, stdout=fd)
        report = "" if done.status else done.stderr
    if done.status:
        raise from_stderr(argv, done.stderr, done.status)
    if report:
        run.say(report)


def send(
    dataset: str,
    fd: int,
    toname: str,
    fromname: str | None,
    flags: Collection[SendFlag],
    origin: str,
) -> None:
    """Write a stream of the snapshot `toname` of `dataset` to `fd`.

    `fromname` is what the stream starts from: a snapshot (with or without dataset or `@`) or a
    bookmark (`#name`). `origin` is the snapshot that the dataset was cloned from, for FROMORIGIN.
    """
    argv = ["zfs", "send", *_options(flags)]
    if fromname:
        argv += ["-I" if SendFlag.DOALL in flags else "-i", _full(dataset, fromname)]
    elif SendFlag.FROMORIGIN in flags and origin:
        argv += ["-i", origin]
    if SendFlag.SAVED in flags:
        _send([*argv, dataset], fd, flags)
    else:
        _send([*argv, _full(dataset, toname)], fd, flags)


def _full(dataset: str, name: str) -> str:
    if name[:1] in ("@", "#"):
        return dataset + name
    return name if "@" in name or "#" in name else f"{dataset}@{name}"


def send_resume(fd: int, token: str, flags: Collection[SendFlag]) -> None:
    """Write the rest of a stream whose receiver was interrupted; `token` is its
    `receive_resume_token`."""
    _send(["zfs", "send", *_options(flags), "-t", token], fd, flags)


def receive(
    name: str,
    fd: int,
    *,
    force: bool,
    nomount: bool,
    resumable: bool,
    props: Mapping[str, object] | None,
    limitds: Mapping[str, object] | None,
) -> None:
    """Read a stream from `fd` into `name`; a property of None is left out of the stream's."""
    if limitds:
        raise not_available("limitds", "only TrueNAS's ZFS can receive a part of a stream")
    argv = ["zfs", "receive"]
    argv += [*(["-F"] if force else []), *(["-u"] if nomount else [])]
    argv += ["-s"] if resumable else []
    for key, value in (props or {}).items():
        argv += ["-x", key] if value is None else ["-o", f"{key}={value}"]
    run.run([*argv, name], stdin=fd)
