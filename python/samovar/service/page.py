"""The page `/<service>/docs`: Swagger UI from files of this machine, without a script or style in the page itself."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

__all__ = ["docs_routes"]

_HERE = Path(__file__).parent / "docs_page"
_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
}
_HEADERS = {
    # Swagger UI writes style attributes, and shows images of answers as blobs.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def docs_routes(service: str, title: str) -> list[Route]:
    """The page and its files, below `/<service>/docs`."""
    base = f"/{service}/docs"
    page = _page(service, title).encode()

    async def show(_: Request) -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers=_HEADERS)

    async def asset(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return FileResponse(_folder(name) / name, media_type=_ASSETS[name], headers=_HEADERS)

    return [
        Route(base, show, methods=["GET"], include_in_schema=False),
        *(Route(f"{base}/{name}", asset, methods=["GET"], include_in_schema=False) for name in _ASSETS),
    ]


def _page(service: str, title: str) -> str:
    from html import escape

    text = (_HERE / "index.html").read_text(encoding="utf-8")
    return text.replace("{title}", escape(title)).replace("{base}", f"/{service}")


def _folder(name: str) -> Path:
    return _HERE if (_HERE / name).exists() else _swagger_ui()


@cache
def _swagger_ui() -> Path:
    """The assets of fastapi-offline; the package itself need not be imported."""
    spec = find_spec("fastapi_offline")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "static"
