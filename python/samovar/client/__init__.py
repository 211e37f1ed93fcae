"""A client of the engine's HTTP door and of its admin socket."""

from samovar.client.client import Client

__all__ = ["Client"]
