"""Whom to trust: the system's certificates, and what an administrator put beside a registry.

For the registry HOST or HOST:PORT, as with Docker and Podman, in a directory of that name below
/etc/docker/certs.d or /etc/containers/certs.d: each *.crt is a certificate authority, each
NAME.cert with NAME.key our own certificate and its key.
"""

import os
import ssl
from collections.abc import Sequence

from oci.registry.errors import Untrusted

DIRECTORIES = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def context(
    authority: str, *, insecure: bool = False, directories: Sequence[str] = DIRECTORIES
) -> ssl.SSLContext:
    """How to speak TLS with `authority` (HOST or HOST:PORT); Untrusted if a file is no good.

    Of an insecure registry nothing is verified.
    """
    made = ssl.create_default_context()
    if insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    for directory in directories:
        _add(made, os.path.join(directory, authority))
    return made


def _add(made: ssl.SSLContext, directory: str) -> None:
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    except OSError as error:
        raise Untrusted(f"cannot read {directory}: {error.strerror}") from None
    for name in names:
        path = os.path.join(directory, name)
        try:
            if name.endswith(".crt"):
                made.load_verify_locations(path)
            elif name.endswith(".cert"):
                made.load_cert_chain(path, f"{path.removesuffix('.cert')}.key", password=_no_one)
        except OSError as error:
            raise Untrusted(
                f"cannot use the certificate {path}: {error.strerror or error}; "
                "it must be PEM, and a .cert needs its .key beside it, without a password"
            ) from None


def _no_one() -> str:
    """Instead of asking at the terminal."""
    return ""
