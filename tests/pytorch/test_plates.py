"""examples/plates: its training, and its pipeline on real weights and photographs of the folder SAMOVAR_PLATES."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

import samovar
from guides import ROOT
from serving import Serve, Served
from watching import metric

EXAMPLE = ROOT / "examples" / "plates"
REAL = Path(os.environ.get("SAMOVAR_PLATES", ""))
with_real_data = pytest.mark.skipif(
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


@with_real_data
def test_published_weights_read_the_plate_of_a_real_car(real: Served) -> None:
    assert texts(real, "car.jpg") == ["B840OK197"]
    assert [metric(real, "samovar_batches_total", model=model) for model in ("detector", "stn", "lprnet")] == [1, 1, 1]


@with_real_data
def test_a_cat_has_no_plate_and_no_network_runs_for_it(real: Served) -> None:
    assert texts(real, "cat.jpeg") == []
    assert [metric(real, "samovar_batches_total", model=model) for model in ("detector", "stn", "lprnet")] == [1, 0, 0]


@with_real_data
def test_the_readme_tells_truly_how_our_own_weights_read_the_real_car(serve: Serve) -> None:
    read = texts(serve(str(EXAMPLE / "plates.py")), "car.jpg")
    told = "as " + ", ".join(f"`{text}`" for text in read) if read else "as nothing"
    assert told in " ".join((ROOT / "README.md").read_text().split())


@pytest.mark.timeout(300)
def test_the_training_draws_learns_writes_both_networks_and_judges_them(tmp_path: Path) -> None:
    few = ["--scenes", "12", "--epochs", "1", "--held-out", "2", "--output", str(tmp_path)]
    command = [sys.executable, str(EXAMPLE / "train.py"), *few]
    trained = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280)
    assert "epoch 1: loss " in trained.stdout
    assert "plates that the cascade finds are read rightly" in trained.stdout.splitlines()[-1]
    crops = np.zeros((3, 3, 24, 94), np.float32)
    with samovar.load(tmp_path / "stn.onnx") as stn, samovar.load(tmp_path / "lprnet.onnx") as lprnet:
        assert lprnet.predict(stn.predict(crops)).shape == (3, 23, 18)
