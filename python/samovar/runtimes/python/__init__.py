"""Runtime of typed Python classes: `@samovar.model` above a class with `predict`."""

from samovar.runtimes.python.inspection import ABOUT, IMPORTS, inspect, recognise
from samovar.runtimes.python.loading import load

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]
