"""Lightning checkpoints: the class in a folder or beside the file, and where its tensors are read from."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formats.compared import Arrays, asked, check_answers, check_damage, refusal
from samovar.config.declared import read_declared
from samovar.errors import TargetError, UnsafeFormatError
from samovar.runtimes import Question, runtime_for
from samovar.runtimes.lightning import inspect
from serving import Serve

FORMAT = "lightning"
# Each worker imports torch anew: 2 s, 9 s with what stands on it, and far more where others use the processors too.
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
CODE = """
import lightning
import torch


class Lit(lightning.LightningModule):
    def __init__(self, width=4, has_example=True):
        super().__init__()
        self.save_hyperparameters()
        if has_example:
            self.example_input_array = torch.zeros(2, 3)
        self.layer = torch.nn.Linear(3, width)

    def forward(self, x):
        return {"logits": self.layer(x), "total": self.layer(x).sum(1)}

    def training_step(self, batch, index):
        return self(batch)["total"].sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
"""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test imports its own file."""
    yield
    for name in ("lit", "_served_lit"):
        sys.modules.pop(name, None)


def folder(tmp_path: Path, **arguments: Any) -> tuple[Path, Any]:
    """A folder with code, checkpoint and samovar.toml; and its module."""
    import lightning

    place = tmp_path / "lit"
    place.mkdir()
    (place / "lit.py").write_text(CODE)
    namespace: dict[str, Any] = {"__name__": "made"}
    exec(CODE, namespace)
    module = namespace["Lit"](**arguments).eval()
    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu", barebones=False
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(place / "lit.ckpt")
    (place / "samovar.toml").write_text('runtime = "lightning"\nruntime_options = { module = "lit.py:Lit" }\n')
    return place, module


def test_a_folder_answers_as_its_module(serve: Serve, tmp_path: Path) -> None:
    place, module = folder(tmp_path, width=5)

    def expected(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            return {name: value.numpy() for name, value in module(torch.tensor(arrays["x"])).items()}

    served = check_answers(serve, place, {"x": X}, expected)
    model = served.http.get("/v2/models/lit").json()
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert [(output["name"], output["shape"]) for output in model["outputs"]] == [("logits", [-1, 5]), ("total", [-1])]
    assert inspect(asked(place))[0]["source"]["read_from"] == "example_input_array of Lit"


def test_a_checkpoint_alone_tells_what_is_missing(serve: Serve, tmp_path: Path) -> None:
    place, _ = folder(tmp_path)
    (place / "samovar.toml").unlink()
    told = refusal(serve, place / "lit.ckpt")
    assert "does not say which class it is of; its hyper_parameters are width, has_example" in told
    assert "lit.py:Net" in told
    assert runtime_for(place / "lit.ckpt").ABOUT.title == "Lightning checkpoints"


def test_without_an_example_inputs_and_outputs_are_declared(tmp_path: Path) -> None:
    place, _ = folder(tmp_path, has_example=False)
    with pytest.raises(TargetError, match=r"forward takes x; set self\.example_input_array in Lit, or write in lit/"):
        inspect(asked(place))
    table = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["batch", 3]}],
        "outputs": [{"name": "logits", "shape": ["batch", 4]}, {"name": "total", "shape": ["batch"]}],
    }
    described = inspect(asked(place, read_declared(table, "of the test")))[0]
    assert described["batch_axis"]
    assert described["source"]["read_from"] == "samovar.toml"


def test_code_beside_a_checkpoint_is_run_only_where_it_is_trusted(tmp_path: Path) -> None:
    place, _ = folder(tmp_path)
    (place / "lit.py").write_text(f"{CODE}\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n")
    table = {"runtime_options": {"module": "lit.py:Lit"}}
    with pytest.raises(UnsafeFormatError, match=r"lit\.ckpt is run by lit\.py.* --trust lit"):
        inspect(Question(place / "lit.ckpt", declared=read_declared(table, "of the test")))
    assert not (tmp_path / "ran").exists()
    trusting = read_declared({**table, "trust": True}, "of the test")
    assert inspect(Question(place / "lit.ckpt", declared=trusting))[0]["source"]["trusted"]
    assert (tmp_path / "ran").exists()


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_objects_in_a_checkpoint_are_not_loaded(tmp_path: Path) -> None:
    place, _ = folder(tmp_path)
    torch.save({"pytorch-lightning_version": "2", "state_dict": Malicious(tmp_path / "ran")}, place / "lit.ckpt")
    with pytest.raises(UnsafeFormatError, match=r"lit is a folder whose weights, lit\.ckpt, are a pickle with"):
        inspect(asked(place))
    assert not (tmp_path / "ran").exists()


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    place, _ = folder(tmp_path)
    (place / "samovar.toml").unlink()
    (place / "lit.ckpt").rename(tmp_path / "model1.ckpt")
    check_damage(serve, tmp_path / "model1.ckpt")
