"""Layers for tests, given as blocks of archives."""

import io

from oci import layer
from tests.oci.archives import END


def applied(entries, tree):
    """Apply the layer that consists of these entries."""
    return layer.apply_layer(io.BytesIO(b"".join(entries) + END), str(tree))
