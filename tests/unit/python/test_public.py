"""The public face: what it has, and what its import does not cost."""

import subprocess
import sys

import pytest

import samovar
from samovar.runtimes import RUNTIMES


def test_the_public_names_are_these() -> None:
    assert samovar.__all__ == [
        "Bytes",
        "ConfigError",
        "Context",
        "File",
        "Image",
        "InputError",
        "InvalidInputError",
        "LoadError",
        "OutputError",
        "RequestError",
        "SamovarError",
        "Server",
        "ServerError",
        "StepError",
        "TargetError",
        "UnreachableError",
        "__version__",
        "api",
        "load",
        "model",
        "mount",
        "service",
        "testing",
        "use",
    ]
    assert samovar.__all__ == sorted(samovar.__all__)
    assert set(samovar.__all__) <= set(dir(samovar))


def test_lazy_names_are_found() -> None:
    assert samovar.Server.__name__ == "Server"
    assert callable(samovar.testing.serve)
    assert callable(samovar.load)
    assert callable(samovar.model)
    with pytest.raises(AttributeError, match="module 'samovar' has no attribute 'sever'"):
        samovar.sever  # noqa: B018 - the mistake


@pytest.mark.parametrize(
    "module",
    [
        "samovar",
        ", ".join(f"samovar.runtimes.{name}" for name in RUNTIMES),
        "samovar.worker.loop",
        "samovar.control",
        "samovar.server.engine",
    ],
    ids=lambda module: module[:20],
)
def test_imports_are_light(module: str) -> None:
    heavy = "{'numpy', 'ml_dtypes', 'jaxtyping', 'typer', 'rich', 'asyncio', 'pydantic', 'onnxruntime', 'torch'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
