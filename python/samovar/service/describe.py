"""What a service class offers, as data: routes, mounted paths, methods of tensors."""

from inspect import cleandoc
from typing import Any

from samovar.errors import TargetError
from samovar.service.declaration import METHODS, mounts_of, service_declaration_of
from samovar.service.endpoints import Endpoint, endpoints_of
from samovar.service.methods import tensor_specs
from samovar.service.openapi import document_of
from samovar.service.schemas import has_contents
from samovar.service.serving import Forms

__all__ = ["describe"]


def describe(cls: type, name: str) -> dict[str, Any]:
    """The object `service` in the description of a class that is served as `name`.

    `routes` with their methods, `mounts`, whose whole subtree is the service's, `methods` that take and give tensors
    alone, and `description`. Raises TargetError and ConfigError, with the cure, for what cannot be served.
    """
    endpoints = endpoints_of(cls, name)
    mounted = [mounted.path for mounted in mounts_of(cls)]
    if not endpoints and not mounted:
        raise TargetError(
            f"service {cls.__name__} serves nothing",
            "write @samovar.api above a method, or samovar.mount(path, app) in its body",
        )
    for path in mounted:
        if mounted.count(path) > 1:
            raise TargetError(f'{cls.__name__} mounts two applications at "{path}"', "give one of them another path")
    declaration = service_declaration_of(cls)
    _refuse_pages(name, endpoints)
    for endpoint in endpoints:
        _refuse_files_in_queries(Forms(endpoint))
    document_of(name, declaration.version if declaration else "1", cls.__doc__, [Forms(e) for e in endpoints])
    return {
        "routes": _routes(endpoints),
        "mounts": list(dict.fromkeys([f"/{name}", *mounted])),
        "methods": [method for endpoint in endpoints for method in _tensor_methods(endpoint)],
        "description": cleandoc(cls.__doc__ or ""),
    }


def _routes(endpoints: list[Endpoint]) -> list[dict[str, Any]]:
    """GET answers HEAD too."""
    return [
        {
            "methods": ["GET", "HEAD"] if endpoint.method == "GET" else [endpoint.method],
            "path": endpoint.path,
            "idempotent": endpoint.idempotent,
        }
        for endpoint in endpoints
    ]


def _tensor_methods(endpoint: Endpoint) -> list[dict[str, Any]]:
    specs = tensor_specs(endpoint)
    if specs is None:
        return []
    inputs, outputs = ([spec.to_json() for spec in half] for half in specs)
    return [{"name": endpoint.name, "inputs": inputs, "outputs": outputs}]


def _refuse_pages(name: str, endpoints: list[Endpoint]) -> None:
    """The service's own pages stand where they stand for every service."""
    for endpoint in endpoints:
        if endpoint.path in (f"/{name}/docs", f"/{name}/openapi.json"):
            raise TargetError(
                f"{endpoint.place} answers at {endpoint.path}, where the service's documentation stands",
                "give it another path with @samovar.api(path=...)",
            )


def _refuse_files_in_queries(forms: Forms) -> None:
    sources = [forms.path, *([] if forms.endpoint.has_body else [forms.rest])]
    for inputs in sources:
        for name, found in inputs.properties.items():
            if has_contents(found):
                raise TargetError(
                    f'parameter "{name}" of {forms.endpoint.place} is a file, which no {inputs.source} has room for',
                    f'take it in a body: method="{METHODS[1]}"',
                )
