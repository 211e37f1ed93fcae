"""The engine as a process: what it runs, and the facade that starts it from Python."""

from samovar.server.facade import Server

__all__ = ["Server"]
