"""nginx with one worker that answers every request with the same bytes: the yardstick for HTTP itself."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
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


@contextmanager
def nginx(folder: Path, body: bytes) -> Iterator[str]:
    """The URL of an nginx that answers with this body."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(port=port, body=body.decode()))
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(config)])
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], timeout_s: float = 10.0) -> None:
    """Return when the port accepts."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            try:
                raise SystemExit(f"nginx ended with {process.wait(timeout=0.02)}")
            except subprocess.TimeoutExpired:
                continue
        return
    raise SystemExit("nginx does not accept connections")
