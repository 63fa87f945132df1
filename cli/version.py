"""The version of the installed package."""


def version() -> str:
    """As the package's metadata have it; "unknown" in a checkout that was never installed."""
    from importlib import metadata

    try:
        return metadata.version("cowshed")
    except metadata.PackageNotFoundError:
        return "unknown"
