"""`samovar version`."""

from samovar.cli.options import AsJson

__all__ = ["print_version", "version"]


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        from samovar.cli.output import print_json

        print_json({"version": _installed()})
    else:
        print_version()


def print_version() -> None:
    """The same as a line for people."""
    print(f"samovar {_installed()}")


def _installed() -> str:
    from importlib.metadata import version as installed  # a tenth of the start of every command

    return installed("samovar")
