"""The control plane: it decides what should be served and tells the data plane."""

from samovar.control.controller import Controller
from samovar.control.engine import Engine

__all__ = ["Controller", "Engine"]
