"""PyTorch modules: a class and its weights, in a folder or as a file, and what of it is not trusted."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from formats.compared import Arrays, asked, check_answers, check_damage, refusal, same
from samovar.config.declared import read_declared
from samovar.errors import TargetError, UnsafeFormatError
from samovar.runtimes import Question, runtime_for
from samovar.runtimes.pytorch import ABOUT, inspect, load
from samovar.runtimes.weights import built, read_weights, unsafe_globals
from serving import Serve

FORMAT = "pytorch"
# Each worker imports torch anew: 2 s, 9 s with what stands on it, and far more where others use the processors too.
pytestmark = pytest.mark.timeout(240)
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
CODE = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first = torch.nn.Linear(3, width)
        self.second = torch.nn.Linear(width, 2)

    def forward(self, x, scale=1.0):
        x.mul_(2)
        logits = self.second(torch.relu(self.first(x))) * scale
        return {"logits": logits, "total": logits.sum(1)}


class Images(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(x)
"""
TENSORS = """
inputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3] }]
outputs = [{ name = "logits", datatype = "FP32", shape = ["batch", 2] }, { name = "total", datatype = "FP32", shape = ["batch"] }]
"""  # noqa: E501 - TOML has inline tables on one line
NAMESPACE: dict[str, Any] = {}
exec(CODE, NAMESPACE)
Net, Images = NAMESPACE["Net"], NAMESPACE["Images"]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test imports its own file."""
    yield
    for name in ("net", "_served_net"):
        sys.modules.pop(name, None)


def answers(module: torch.nn.Module, arrays: Arrays) -> Arrays:
    with torch.no_grad():
        return {name: value.numpy() for name, value in module(torch.tensor(arrays["x"])).items()}


def folder(tmp_path: Path, weights: str = "net.safetensors", options: str = "") -> tuple[Path, Any]:
    """A folder with code, weights and samovar.toml; and its module."""
    place = tmp_path / "net"
    place.mkdir()
    torch.manual_seed(0)
    module = Net(5).eval()
    (place / "net.py").write_text(CODE)
    if weights.endswith(".safetensors"):
        safetensors.torch.save_file(module.state_dict(), place / weights)
    else:
        torch.save(
            {"state_dict": {f"module.{name}": one for name, one in module.state_dict().items()}}, place / weights
        )
    (place / "samovar.toml").write_text(
        f'runtime = "pytorch"\n{TENSORS}[runtime_options]\nmodule = "net.py:Net"\n'
        f"arguments = {{ width = 5 }}\n{options}\n"
    )
    return place, module


@pytest.mark.parametrize("weights", ["net.safetensors", "net.pt"])
def test_a_folder_answers_as_its_module(serve: Serve, tmp_path: Path, weights: str) -> None:
    place, module = folder(tmp_path, weights)
    served = check_answers(serve, place, {"x": X}, lambda arrays: answers(module, arrays))
    assert served.http.get("/v2/models/net").json()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert "trusted" not in served.output()


def called(place: Path, arrays: Arrays) -> Arrays:
    """What the folder answers in this process."""
    described = inspect(asked(place))[0]
    options = {"threads": 1, "writable_inputs": False}
    outputs = load({**described, "options": options}).predict([arrays["x"]])
    return dict(zip([output["name"] for output in described["outputs"]], outputs, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("option", "tolerance"), [('quantize = "dynamic"', 0.1), ('dtype = "bfloat16"', 0.1)])
def test_options_change_the_numbers_a_little(tmp_path: Path, option: str, tolerance: float) -> None:
    place, module = folder(tmp_path, options=option)
    found, wanted = called(place, {"x": X}), answers(module, {"x": X})
    for name, array in wanted.items():
        assert found[name].dtype == np.float32
        assert not np.array_equal(found[name], array)
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance)


def test_a_compiled_module_answers_as_the_other(tmp_path: Path) -> None:
    place, module = folder(tmp_path, options="compile = true")
    described = inspect(asked(place))[0]
    model = load({**described, "options": {"threads": 1, "writable_inputs": False}})
    for count in (1, 3, 8):
        found = model.predict([X[:count]])
        same(dict(zip(("logits", "total"), found, strict=True)), answers(module, {"x": X[:count]}), 1e-5)


def test_images_may_have_their_channels_last(tmp_path: Path) -> None:
    place, _ = folder(tmp_path, options="channels_last = true")
    module = Images().eval()
    safetensors.torch.save_file(module.state_dict(), place / "net.safetensors")
    (place / "samovar.toml").write_text(
        'runtime = "pytorch"\ninputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3, 8, 8] }]\n'
        'outputs = [{ name = "y", datatype = "FP32", shape = ["batch", 4, 6, 6] }]\n'
        '[runtime_options]\nmodule = "net.py:Images"\nchannels_last = true\n'
    )
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(called(place, {"x": x})["y"], module(torch.tensor(x)).numpy(), atol=1e-5)


def test_unknown_options_are_told(tmp_path: Path) -> None:
    place, _ = folder(tmp_path, options='quantize = "fast"')
    with pytest.raises(Exception, match=r"\"quantize\" of net is 'fast'; it wants one of none, dynamic"):
        inspect(asked(place))


def test_weights_are_mapped_and_not_copied(tmp_path: Path) -> None:
    place, module = folder(tmp_path)
    state = safetensors.torch.load_file(place / "net.safetensors")
    made = built(place, lambda: Net(5), state)
    assert made.first.weight.data_ptr() == state["first.weight"].data_ptr()
    assert torch.equal(made.first.weight, module.first.weight)


class Counting(torch.nn.Module):
    """Keeps what no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.arange(3.0), persistent=False)
        self.layer = torch.nn.Linear(3, 2)


def test_a_module_that_keeps_more_than_weights_is_made_with_it(tmp_path: Path) -> None:
    made = built(tmp_path, Counting, Counting().state_dict())
    assert made.steps.tolist() == [0, 1, 2]


def test_a_file_of_weights_alone_tells_what_is_missing(serve: Serve, tmp_path: Path) -> None:
    place, module = folder(tmp_path)
    (place / "samovar.toml").unlink()
    told = refusal(serve, place / "net.safetensors")
    assert "holds weights alone (" in told
    for line in ('module = \\"net.py:Net\\"', 'inputs = [{ name = \\"x\\"', 'outputs = [{ name = \\"y\\"'):
        assert line in told or line.replace("\\", "") in told
    torch.save(module.state_dict(), place / "state.pt")
    with pytest.raises(TargetError, match=r"state\.pt holds weights alone \(first\.weight \[5, 3\]"):
        inspect(Question(place / "state.pt"))


def declared(**further: Any) -> Any:
    table = {
        "runtime": "pytorch",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["batch", 3]}],
        "outputs": [{"name": "logits"}, {"name": "total"}],
        "runtime_options": {"module": "net.py:Net", "arguments": {"width": 5}},
    }
    return read_declared({**table, **further}, "of the test")


def test_code_beside_a_weights_file_is_run_only_where_it_is_trusted(tmp_path: Path) -> None:
    place, _ = folder(tmp_path)
    (place / "net.py").write_text(f"{CODE}\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n")
    file = place / "net.safetensors"
    with pytest.raises(UnsafeFormatError, match=r"net\.safetensors is run by net\.py.* --trust net"):
        inspect(Question(file, declared=declared()))
    assert not (tmp_path / "ran").exists()
    described = inspect(Question(file, declared=declared(trust=True)))[0]
    assert described["source"]["trusted"]
    assert (tmp_path / "ran").exists()


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickled_module_is_loaded_only_where_it_is_trusted(serve: Serve, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).eval(), tmp_path / "whole.pt")
    told = refusal(serve, tmp_path / "whole.pt")
    assert "unsafe_format" in told
    assert "torch.nn.modules.linear.Linear" in told
    assert "--trust whole" in told
    torch.save(Malicious(tmp_path / "ran"), tmp_path / "bad.pt")
    with pytest.raises(UnsafeFormatError, match=r"unsafe_format: bad\.pt is a pickle with"):
        inspect(Question(tmp_path / "bad.pt"))
    assert not (tmp_path / "ran").exists()


def test_a_pickled_module_whose_class_is_not_here_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("gone")
    made.Gone = type("Gone", (torch.nn.Linear,), {"__module__": "gone"})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gone", made)
        torch.save({"model": made.Gone(3, 2), "epoch": 3}, tmp_path / "net.pt")
        found = read_weights(tmp_path / "net.pt", ABOUT, is_trusted=True)
        assert isinstance(found, made.Gone)
    with pytest.raises(TargetError, match=r"classes that are not here, .*gone\.Gone.* install their package, or put"):
        inspect(Question(tmp_path / "net.pt", declared=declared(trust=True, runtime_options={})))


def test_what_is_neither_archive_nor_pickle_is_told(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(bytes(range(128, 256)) * 4)
    with pytest.raises(TargetError, match=r"net\.pt is no file of torch\.save; fetch"):
        unsafe_globals(tmp_path / "net.pt", ABOUT)


def test_weights_of_the_form_before_zip_are_known(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert runtime_for(tmp_path / "old.pth").ABOUT.title == "PyTorch modules"
    with pytest.raises(TargetError, match=r"old\.pth holds weights alone \(first\.weight"):
        inspect(Question(tmp_path / "old.pth"))


def test_a_trusted_pickled_module_answers_as_it_does_itself(serve: Serve, tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2).eval()
    torch.save(module, tmp_path / "whole.pt")
    options = (
        'trust = true\ninputs = [{ name = "input", datatype = "FP32", shape = ["batch", 3] }]\n'
        'outputs = [{ name = "y", datatype = "FP32", shape = ["batch", 2] }]'
    )

    def expected(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            return {"y": module(torch.tensor(arrays["input"])).numpy()}

    served = check_answers(serve, tmp_path / "whole.pt", {"input": X}, expected, options=options)
    assert "trusted" in served.output()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"inputs": [{"name": "y"}]}, r'input "y" is declared .*, but forward of net takes x, scale'),
        (
            {"inputs": None},
            r"net does not say .* forward takes x, scale; write in net/samovar\.toml: inputs",
        ),
        ({"runtime_options": {"module": "net.py:Other"}}, r"net\.py has no class Other"),
        ({"runtime_options": {"module": "net.py:Net"}}, r"the weights of net\.safetensors do not fit its module"),
        ({"runtime_options": {"module": "../net.py:Net"}}, r'option "module" names \.\./net\.py, which is not in'),
        ({"runtime_options": {"module": "net.py"}}, r'"module" is .net\.py.; name a file and a class'),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    place, _ = folder(tmp_path)
    (place / "samovar.toml").write_text('runtime = "pytorch"\n')
    table = {key: value for key, value in declared().to_json().items() if change.get(key, value) is not None} | {
        key: value for key, value in change.items() if value is not None
    }
    with pytest.raises(Exception, match=fault):
        inspect(Question(place, declared=read_declared(table, "of the test")))


def test_files_of_weights_are_known_by_their_content(tmp_path: Path) -> None:
    place, module = folder(tmp_path)
    torch.save(module.state_dict(), place / "state.bin")
    for path in (place, place / "net.safetensors", place / "state.bin"):
        assert runtime_for(path).ABOUT.title == "PyTorch modules"


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(100)}, tmp_path / "model1.safetensors")
    check_damage(serve, tmp_path / "model1.safetensors")
