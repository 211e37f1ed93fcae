"""A format that another package adds: the one of docs/formats.md, and broken ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from guides import ROOT, blocks
from serving import NotReadyError, Serve

W, B = np.arange(6.0).reshape(3, 2), np.array([1.0, -1.0])
X = np.arange(12.0).reshape(4, 3)


def installed(folder: Path, name: str, module: str, code: str) -> dict[str, str]:
    """A package of one module as an installer leaves it; the environment in which it is found."""
    (folder / f"{module}.py").write_text(code)
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[samovar.runtimes]\n{name} = {module}\n")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Where packages are installed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A model of the format of the page."""
    np.savez(tmp_path / "line.npz", w=W, b=B)
    return tmp_path / "line.npz"


def documented() -> str:
    """The module of the page."""
    (module,) = [block.text for block in blocks(ROOT / "docs" / "formats.md") if block.file == "npz_models.py"]
    return module


def test_the_format_of_the_page_is_served(serve: Serve, packages: Path, line: Path) -> None:
    served = serve(str(line), environment=installed(packages, "npz", "npz_models", documented()))
    assert served.http.get("/v2/models/line").json()["platform"] == "npz"
    for found in (served.http.infer("line", {"x": X}), served.grpc.infer("line", {"x": X})):
        np.testing.assert_array_equal(found.arrays()["y"], X @ W + B)
    refused = served.http.infer("line", {"x": X[:, :2]})
    assert refused.status == 400


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import a_module_that_is_not_there\n", "No module named 'a_module_that_is_not_there'"),
        ("raise ValueError('when it is imported')\n", "when it is imported"),
        ("def recognise(path): return 0\n", "has no ABOUT, IMPORTS, inspect, load"),
        ("ABOUT = IMPORTS = inspect = load = 0\ndef recognise(path): return {}[path]\n", "recognise raised"),
    ],
    ids=["absent", "raising", "lacking", "recognising"],
)
def test_a_broken_format_is_passed_over_and_named(
    serve: Serve, packages: Path, line: Path, code: str, fault: str
) -> None:
    environment = installed(packages, "broken", "broken_models", code)
    served = serve("echo.py:EchoFp32", environment=environment)
    assert served.http.get("/v2/models/echo_fp32/ready").status == 200
    with pytest.raises(NotReadyError) as told:
        serve(str(line), environment=environment)
    assert "line.npz has no format that is served" in str(told.value)
    assert 'the runtime "broken"' in str(told.value)
    assert fault in str(told.value)


def test_a_broken_format_hurts_no_other(serve: Serve, packages: Path, line: Path) -> None:
    installed(packages, "broken", "broken_models", "raise ValueError\n")
    environment = installed(packages, "npz", "npz_models", documented())
    np.savez(line.parent / "cut.npz", w=W, b=B)
    cut = line.parent / "cut.npz"
    content = bytearray(cut.read_bytes())
    content[30:60] = bytes(30)  # the directory of the archive is whole, an array in it is not
    cut.write_bytes(content)
    served = serve(str(line), str(cut), environment=environment)
    np.testing.assert_array_equal(served.http.infer("line", {"x": X}).arrays()["y"], X @ W + B)
    (told,) = [json.dumps(entry) for entry in served.errors(1)]
    assert "cut" in told
