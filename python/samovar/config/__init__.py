"""Settings: two dataclasses that declare every option once, and the layers that fill them."""

from samovar.config.layers import Configuration, configure
from samovar.config.settings import OWN_WORKER, ModelConfig, ServerConfig

__all__ = ["OWN_WORKER", "Configuration", "ModelConfig", "ServerConfig", "configure"]
