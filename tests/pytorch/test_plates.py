"""The pipeline of examples/plates on real weights and photographs, of the folder that SAMOVAR_PLATES names."""

import os
import shutil
from pathlib import Path

import httpx
import pytest

from guides import ROOT
from serving import Serve, Served
from watching import metric

EXAMPLE = ROOT / "examples" / "plates"
REAL = Path(os.environ.get("SAMOVAR_PLATES", ""))
pytestmark = pytest.mark.skipif(
    Path() == REAL, reason="SAMOVAR_PLATES names no folder with real weights and photographs"
)


@pytest.fixture
def real(serve: Serve, tmp_path: Path) -> Served:
    """The file of the example, which leads to other weights: TorchScript as it was published."""
    program = (EXAMPLE / "plates.py").read_text()
    for net in ("stn", "lprnet"):
        assert f'"{net}.onnx"' in program
        program = program.replace(f'"{net}.onnx"', f'"{net}.pt"')
        shutil.copy(REAL / f"{net}.pt", tmp_path)
    (tmp_path / "plates.py").write_text(program)
    return serve(str(tmp_path / "plates.py"))


def texts(served: Served, photo: str) -> list[str]:
    url = f"http://127.0.0.1:{served.port}/plates/recognize"
    answer = httpx.post(url, files={"image": (REAL / photo).read_bytes()}, timeout=60)
    assert answer.status_code == 200, answer.text
    return [plate["text"] for plate in answer.json()]


def test_published_weights_read_the_plate_of_a_real_car(real: Served) -> None:
    assert texts(real, "car.jpg") == ["B840OK197"]
    assert [metric(real, "samovar_batches_total", model=model) for model in ("detector", "stn", "lprnet")] == [1, 1, 1]


def test_a_cat_has_no_plate_and_no_network_runs_for_it(real: Served) -> None:
    assert texts(real, "cat.jpeg") == []
    assert [metric(real, "samovar_batches_total", model=model) for model in ("detector", "stn", "lprnet")] == [1, 0, 0]


def test_the_readme_tells_truly_how_our_own_weights_read_the_real_car(serve: Serve) -> None:
    read = texts(serve(str(EXAMPLE / "plates.py")), "car.jpg")
    told = "as " + ", ".join(f"`{text}`" for text in read) if read else "as nothing"
    assert told in " ".join((ROOT / "README.md").read_text().split())
