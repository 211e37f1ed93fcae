"""nginx with one worker that answers every request with the same bytes: the ceiling for HTTP itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import Peer, Ports
from benchmarks.peers.oip import OipPeer
from benchmarks.work import ECHO, Work, as_json

CONFIG = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{body}'; }}
  }}
}}
"""


class Nginx(OipPeer):
    """`return 200` with what Samovar answers."""

    name = "nginx"
    works: ClassVar[Mapping[str, frozenset[str]]] = {"echo": frozenset({"json"})}

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        del tuning
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(port=ports.http, body=static_answer(work.name).decode()))
        return ["nginx", "-p", str(folder), "-c", str(config)]

    def versions(self) -> dict[str, str]:
        """See machine.describe."""
        return {}


def static_answer(model: str) -> bytes:
    """The very bytes of Samovar's answer; a test compares them."""
    array = ECHO.inputs()
    output = {"name": "output", "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
    return as_json({"model_name": model, "model_version": "1", "outputs": [output]})


PEER: Peer = Nginx()
