"""What is read from a TorchScript archive, what its calls give, and what is told of one that cannot be served."""

import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from pytorch.modules import (
    Counted,
    Defaults,
    Dictionary,
    Double,
    Growing,
    Images,
    Linear,
    Listed,
    Lists,
    Lookup,
    Named,
    Pair,
    Rectified,
    Recurrent,
    Refusing,
    Sums,
    Texts,
    scripted,
    traced,
)
from samovar.config import Configuration, ServerConfig
from samovar.config.declared import read_declared
from samovar.errors import ConfigError, InvalidInputError, OutputError, TargetError
from samovar.runtimes import Question, runtime_for
from samovar.runtimes.torchscript import inspect, load

X = {"name": "x", "datatype": "FP32", "shape": ["batch", 3]}


def described(path: Path, **declared: Any) -> dict[str, Any]:
    (description,) = inspect(Question(path, declared=read_declared(declared, "in samovar.toml")))
    return description


def calls(path: Path, *inputs: Any, **declared: Any) -> list[Any]:
    """The outputs of one call, as a worker would make it: inputs are read-only."""
    description = described(path, **declared)
    options = Configuration(ServerConfig()).model_options("m", {}, batch_axis=description["batch_axis"])
    model = load({**description, "options": options})
    for array in inputs:
        array.flags.writeable = False
    model.start()
    outputs: list[Any] = list(model.predict(list(inputs)))
    model.close()
    return outputs


def names(tensors: list[dict[str, Any]]) -> list[str]:
    return [tensor["name"] for tensor in tensors]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ts"])
def test_an_archive_says_names_alone(tmp_path: Path, suffix: str) -> None:
    path = scripted(Double(), tmp_path / f"double{suffix}")
    assert runtime_for(path).inspect(Question(path)) == [
        {
            "name": "double",
            "version": "1",
            "runtime": "torchscript",
            "source": {
                "path": str(path),
                "uses": {},
                "read_from": "its code: names alone",
                "runtime_options": {"device": "cpu", "channels_last": False, "freeze": False},
            },
            "inputs": [{"name": "x", "datatype": None, "dims": None}],
            "outputs": [{"name": "output", "datatype": None, "dims": None}],
            "batch_axis": False,
            "streams": False,
            "service": None,
            "options": {},
            "imports": ["numpy", "torch"],
        }
    ]


def test_a_traced_module_is_the_same(tmp_path: Path) -> None:
    path = traced(Sums(), tmp_path / "sums.pt", torch.zeros(1, 3), torch.zeros(1, 3))
    found = described(path)
    assert (names(found["inputs"]), names(found["outputs"])) == (["a", "b"], ["output_0", "output_1"])
    total, difference = calls(path, np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32))
    assert ((total == 3).all(), (difference == -1).all()) == (True, True)


def test_the_rest_is_declared_beside_or_inside(tmp_path: Path) -> None:
    inside = 'max_batch_size = 8\ninputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3] }]\n'
    inside += 'outputs = [{ name = "twice", datatype = "FP32", shape = ["batch", 3] }]\n'
    path = scripted(Double(), tmp_path / "double.pt", inside)
    found = described(path)
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "dims": [3]}]
    assert found["outputs"] == [{"name": "twice", "datatype": "FP32", "dims": [3]}]
    assert (found["batch_axis"], found["options"]) == (True, {"max_batch_size": 8})
    beside = described(path, max_batch_size=4, outputs=[{"name": "y", "datatype": "FP32", "shape": ["batch", "n"]}])
    assert (beside["outputs"][0]["name"], beside["options"]) == ("y", {"max_batch_size": 4})


@pytest.mark.parametrize(
    ("declared", "batch_axis"),
    [
        ({"inputs": [X], "outputs": [{**X, "name": "y"}]}, True),
        ({"inputs": [X], "outputs": [{**X, "name": "y", "shape": [-1, 3]}]}, False),
        ({"inputs": [X], "outputs": [{**X, "name": "y", "shape": ["boxes", 3]}]}, False),
        ({"inputs": [X], "outputs": [{**X, "name": "y", "shape": ["rows", 3]}], "batch_axis": True}, True),
        ({"inputs": [X]}, False),
    ],
)
def test_the_batch_axis_is_declared_on_every_tensor(tmp_path: Path, declared: dict[str, Any], batch_axis: bool) -> None:
    assert described(scripted(Double(), tmp_path / "m.pt"), **declared)["batch_axis"] is batch_axis


def test_several_outputs_are_named_by_the_declaration(tmp_path: Path) -> None:
    outputs = [{"name": "scores"}, {"name": "boxes"}]
    for module in (Dictionary(), Listed(), Named()):
        path = scripted(module, tmp_path / "m.pt")
        assert names(described(path, outputs=outputs)["outputs"]) == ["scores", "boxes"]
    scores, boxes = calls(scripted(Dictionary(), tmp_path / "m.pt"), np.zeros(2, np.float32), outputs=outputs)
    assert (scores.tolist(), boxes.tolist()) == ([1, 1], [0, 0])
    first, second = calls(scripted(Listed(), tmp_path / "m.pt"), np.zeros(2, np.float32), outputs=outputs)
    assert (first.tolist(), second.tolist()) == ([0, 0], [1, 1])
    assert len(calls(scripted(Named(), tmp_path / "m.pt"), np.zeros(2, np.float32))) == 2


def test_the_graph_says_keys_and_how_many(tmp_path: Path) -> None:
    x = np.zeros(2, np.float32)
    path = scripted(Dictionary(), tmp_path / "m.pt")
    assert names(described(path)["outputs"]) == ["boxes", "scores", "extra"]
    assert [output[0] for output in calls(path, x)] == [0, 1, 0]
    path = scripted(Pair(), tmp_path / "m.pt")
    assert names(described(path)["outputs"]) == ["output_0", "output_1"]
    assert [output[0] for output in calls(path, x)] == [0, 1]


def test_nested_results_are_outputs_one_after_the_other(tmp_path: Path) -> None:
    path = scripted(Recurrent(), tmp_path / "m.pt")
    assert names(described(path)["outputs"]) == ["output_0", "output_1", "output_2"]
    assert [output[0] for output in calls(path, np.zeros(2, np.float32))] == [0, 1, 2]


def test_what_is_not_sent_keeps_its_default(tmp_path: Path) -> None:
    path = scripted(Defaults(), tmp_path / "m.pt")
    assert calls(path, np.ones(2, np.float32))[0].tolist() == [2, 2]
    declared = {"inputs": [{"name": "x"}, {"name": "offset"}]}
    assert names(described(path, **declared)["inputs"]) == ["x", "offset"]
    assert calls(path, np.ones(2, np.float32), np.ones(2, np.float32), **declared)[0].tolist() == [3, 3]


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 3)])
def test_every_datatype_passes(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    class Echo(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    array = np.ones(shape, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    (output,) = calls(traced(Echo(), tmp_path / "m.pt", torch.zeros(1)), array)
    assert (output.dtype, output.shape, output.tobytes()) == (array.dtype, shape, array.tobytes())


def test_a_module_that_writes_gets_copies(tmp_path: Path) -> None:
    x = np.array([-1, 2], np.float32)
    x.setflags(write=False)
    (output,) = calls(scripted(Rectified(), tmp_path / "m.pt"), x)
    assert (output.tolist(), x.tolist()) == ([0, 2], [-1, 2])


def test_a_module_that_only_reads_gets_no_copies(tmp_path: Path) -> None:
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    x = np.ones(3, np.float32)
    (output,) = calls(scripted(Same(), tmp_path / "m.pt"), x)
    assert np.shares_memory(output, x)


def test_threads_are_those_of_the_options(tmp_path: Path) -> None:
    description = described(scripted(Double(), tmp_path / "m.pt"))
    options = {"threads": 3, "concurrency": 1, "writable_inputs": False}
    load({**description, "options": options})
    assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (3, 1)


def test_faults_of_a_module_are_told_without_torchs_traceback(tmp_path: Path) -> None:
    linear = scripted(Linear(), tmp_path / "linear.pt")
    with pytest.raises(RuntimeError, match=r"^(addmm: )?mat1 and mat2 shapes cannot be multiplied \(1x4 and 3x2\)$"):
        calls(linear, np.ones((1, 4), np.float32))
    with pytest.raises(RuntimeError, match=r"^ValueError: negative$"):
        calls(scripted(Refusing(), tmp_path / "refusing.pt"), np.full(2, -1, np.float32))
    with pytest.raises(RuntimeError, match=r"^index out of range"):
        calls(scripted(Lookup(), tmp_path / "lookup.pt"), np.array([7]))
    with pytest.raises(InvalidInputError, match=r'^input "x" is BYTES, of which torch has no tensors; send numbers$'):
        calls(linear, np.array([b"a"], object))


def test_results_unlike_the_declaration_are_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^the module returned 2 tensors for 1 outputs; declare what it returns"):
        calls(scripted(Listed(), tmp_path / "m.pt"), np.ones(2, np.float32), outputs=[{"name": "a"}])
    with pytest.raises(OutputError, match=r'^the module returned boxes, scores, extra, but no "a"; declare what'):
        calls(scripted(Dictionary(), tmp_path / "m.pt"), np.ones(2, np.float32), outputs=[{"name": "a"}])


REFUSED: dict[str, tuple[torch.nn.Module, dict[str, Any], str]] = {
    "argument": (Counted(), {}, 'argument "count" of forward in m.pt is int, no tensor; give it a default, or wrap'),
    "return": (Texts(), {"outputs": [{"name": "a"}]}, "forward in m.pt returns str, no tensor; wrap the module in one"),
    "list": (
        Listed(),
        {},
        r"forward in m.pt returns List\[Tensor\], which does not say how many; name them in samovar.toml",
    ),
    "dict": (Growing(), {}, r"forward in m.pt returns Dict\[str, Tensor\], which does not say how many; name them"),
    "lists": (Lists(), {}, r"forward in m.pt returns List\[Tensor\], no tensor; wrap the module in one"),
    "count": (
        Sums(),
        {"outputs": [{"name": "a"}]},
        "1 outputs are declared, but forward in m.pt returns 2; declare each",
    ),
    "name": (
        Double(),
        {"inputs": [{"name": "y"}]},
        'input "y" is declared in samovar.toml, but m.pt has none of that name; it has "x"',
    ),
    "text": (
        Double(),
        {"inputs": [{"name": "x", "datatype": "BYTES"}]},
        'input "x" of m.pt is declared as BYTES; torch has no text tensors',
    ),
    "batch": (
        Double(),
        {"batch_axis": True},
        'batch_axis = true, but input "x" of m.pt has an unknown shape; declare it',
    ),
}


@pytest.mark.parametrize(("module", "declared", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sent_is_refused(
    tmp_path: Path, module: torch.nn.Module, declared: dict[str, Any], message: str
) -> None:
    with pytest.raises(TargetError, match=f"^{message}"):
        described(scripted(module, tmp_path / "m.pt"), **declared)


def test_settings_inside_are_checked(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r'^unknown setting "input" in samovar.toml inside of m.pt; did you mean "inputs"'
    ):
        described(scripted(Double(), tmp_path / "m.pt", "input = []"))
    with pytest.raises(ConfigError, match=r"^the settings in samovar.toml inside of m.pt cannot be read: "):
        described(scripted(Double(), tmp_path / "m.pt", "input = ["))


CONVERT = r"save torch.jit.script\(model\) or torch.jit.trace\(model, example\), or write a Python class that loads it"


def test_other_files_of_torch_are_told_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    for saved, options in ((Linear().state_dict(), {}), (Linear(), {})):
        torch.save(saved, path, **options)
        with pytest.raises(
            TargetError, match=rf"^m.pt holds weights or a pickled module \(torch.save\), .*; {CONVERT}$"
        ):
            described(path)
    torch.save(Linear().state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(TargetError, match=rf"^m.pt is a Python pickle, no TorchScript archive; {CONVERT}$"):
        described(path)
    torch.export.save(torch.export.export(Double(), (torch.zeros(1),)), tmp_path / "m.pt2")
    (tmp_path / "m.pt2").rename(path)
    with pytest.raises(
        TargetError, match=rf"^m.pt is a program of torch.export, no TorchScript; export it to ONNX; or {CONVERT}"
    ):
        described(path)


def test_foreign_and_damaged_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    whole = scripted(Double(), tmp_path / "whole.pt").read_bytes()
    for length in (1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            TargetError, match=r"^m.pt is (a damaged archive: .*; fetch or save the file again|no Torch|a text)"
        ):
            described(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b", "c")
    with pytest.raises(TargetError, match=rf"^m.pt is a zip archive without TorchScript code; {CONVERT}$"):
        described(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(
        TargetError, match=r"^m.pt is a pointer of Git LFS to the file, no TorchScript archive; run: git lfs"
    ):
        described(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/constants.pkl", "")
        archive.writestr("a/code/x.py", "")
    with pytest.raises(TargetError, match=r"^torch [\w.+]+ cannot load m.pt: .*; fetch or save the file again$"):
        described(path)


@pytest.mark.parametrize("option", ["channels_last", "freeze"])
def test_options_do_not_change_the_answer(tmp_path: Path, option: str) -> None:
    module = Images().eval()
    path = scripted(module, tmp_path / "images.pt")
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    wanted = module(torch.tensor(images)).detach().numpy()
    assert described(path, runtime_options={option: True})["source"]["runtime_options"][option]
    (found,) = calls(path, images, runtime_options={option: True})
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    with pytest.raises(
        ConfigError, match=r"unknown runtime option .frozen. of images\.pt; its runtime has device, channels_last"
    ):
        described(path, runtime_options={"frozen": True})
