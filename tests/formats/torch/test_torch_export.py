"""torch.export: programs, what in them could run code, and native packages where they are trusted."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.export.pt2_archive._package import package_pt2

from formats.compared import Arrays, check_answers, check_damage, refusal, same
from formats.compared import answers as in_process
from samovar.config.declared import read_declared
from samovar.errors import TargetError, UnsafeFormatError
from samovar.runtimes import Question, runtime_for
from samovar.runtimes.torch_export import inspect, load
from serving import Serve

FORMAT = "torch_export"
# Each worker imports torch anew: 2 s, 9 s with what stands on it, and far more where others use the processors too.
pytestmark = pytest.mark.timeout(240)
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


# Headers and wrapper are compiled for one package alone.
QUICK = {"aot_inductor.precompile_headers": False, "aot_inductor.compile_wrapper_opt_level": "O0"}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> dict[str, torch.Tensor]:
        logits = self.layer(x) * scale
        return {"logits": logits, "total": logits.sum(1)}


class Writing(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a.relu_() + b, b * 2


def exported(module: torch.nn.Module, path: Path, *examples: torch.Tensor, dims: Any = None) -> Path:
    torch.export.save(torch.export.export(module.eval(), examples, dynamic_shapes=dims), path)
    return path


def answers(module: torch.nn.Module) -> Callable[[Arrays], Arrays]:
    def ask(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            return {name: value.numpy() for name, value in module(torch.tensor(arrays["x"])).items()}

    return ask


def test_a_program_answers_as_its_module_and_its_dim_bounds_the_batch(serve: Serve, tmp_path: Path) -> None:
    module = Net()
    dims = {"x": {0: torch.export.Dim("rows", min=1, max=8)}}
    path = exported(module, tmp_path / "net.pt2", torch.ones(2, 3), dims=dims)
    served = check_answers(serve, path, {"x": X}, answers(module))
    model = served.http.get("/v2/models/net").json()
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert [output["shape"] for output in model["outputs"]] == [[-1, 2], [-1]]
    described = inspect(Question(path))[0]
    assert described["options"] == {"max_batch_size": 8}
    assert described["source"]["read_from"] == "the graph"


def test_a_batch_that_is_fixed_is_served_one_at_a_time_with_a_hint(serve: Serve, tmp_path: Path) -> None:
    module = Net()
    path = exported(module, tmp_path / "fixed.pt2", torch.ones(1, 3))
    check_answers(serve, path, {"x": X[:1]}, answers(module), has_batches=False)
    assert "dynamic_shapes" in inspect(Question(path))[0]["source"]["note"]


def test_a_program_that_writes_into_its_inputs_has_copies(serve: Serve, tmp_path: Path) -> None:
    rows = torch.export.Dim("rows")
    path = exported(
        Writing(), tmp_path / "writing.pt2", torch.ones(2, 3), torch.ones(2, 3), dims=({0: rows}, {0: rows})
    )
    names = [output["name"] for output in inspect(Question(path))[0]["outputs"]]

    def expected(arrays: Arrays) -> Arrays:
        return dict(zip(names, (np.maximum(arrays["a"], 0) + arrays["b"], arrays["b"] * 2), strict=True))

    check_answers(serve, path, {"a": X, "b": X + 1}, expected)


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        pairs = x.reshape(-1, 2, 3)
        return {"pairs": pairs + 1, "deep": {"sums": (pairs.sum(2), x.sum(1))}}


def test_nested_results_have_their_keys_and_expressions_for_lengths_are_numbers(tmp_path: Path) -> None:
    dims = {"x": {0: 2 * torch.export.Dim("half")}}
    path = exported(Nested(), tmp_path / "net.pt2", torch.ones(4, 3), dims=dims)
    described = inspect(Question(path))[0]
    assert [output["name"] for output in described["outputs"]] == ["pairs", "deep.sums.0", "deep.sums.1"]
    assert not described["batch_axis"]
    found = in_process(path, {"x": X[:6]})
    same(
        found,
        {
            "pairs": X[:6].reshape(-1, 2, 3) + 1,
            "deep.sums.0": X[:6].reshape(-1, 2, 3).sum(2),
            "deep.sums.1": X[:6].sum(1),
        },
        1e-5,
    )


def test_a_result_of_transformers_is_known_by_its_module(serve: Serve, tmp_path: Path) -> None:
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=30, **sizes)).eval()
    ids = np.arange(6).reshape(2, 3)
    auto = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    program = torch.export.export(
        model, (), {"input_ids": torch.tensor(ids)}, dynamic_shapes={"input_ids": auto}, strict=False
    )
    torch.export.save(program, tmp_path / "bert.pt2")

    def expected(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            return {"logits": model(torch.tensor(arrays["input_ids"])).logits.numpy()}

    check_answers(serve, tmp_path / "bert.pt2", {"input_ids": ids}, expected)


@dataclass
class Pair:
    a: torch.Tensor
    b: torch.Tensor


class Pairs(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(x, x + 1)


def test_what_cannot_be_known_or_chosen_is_told(tmp_path: Path) -> None:
    torch.export.register_dataclass(Pair, serialized_type_name="tests.Pair")
    path = exported(Pairs(), tmp_path / "pairs.pt2", torch.ones(2, 3))
    path = rewritten(path, in_graph("tests.Pair", "tests.Other"))
    with pytest.raises(TargetError, match=r"changed\.pt2 takes or returns a tests\.Other, .* not known here; export"):
        inspect(Question(path))
    one = torch.export.export(Writing(), (torch.ones(2), torch.ones(2)))
    package_pt2(str(tmp_path / "two.pt2"), exported_programs={"encoder": one, "decoder": one})
    with pytest.raises(TargetError, match=r"two\.pt2 has the programs encoder, decoder; save each in a file"):
        inspect(Question(tmp_path / "two.pt2"))
    package_pt2(str(tmp_path / "one.pt2"), exported_programs={"encoder": one})
    assert len(inspect(Question(tmp_path / "one.pt2"))[0]["inputs"]) == 2


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The archive with other contents."""
    other = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return other


def in_graph(old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if not name.startswith("models/"):
            return content
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return change


def samples(path: Path) -> Callable[[str, bytes], bytes]:
    class Malicious:
        def __reduce__(self) -> Any:
            return Path.touch, (path,)

    def change(name: str, content: bytes) -> bytes:
        if not name.startswith("data/sample_inputs/"):
            return content
        file = path.with_suffix(".samples")
        torch.save(Malicious(), file)
        return file.read_bytes()

    return change


def weights(name: str, content: bytes) -> bytes:
    return (
        content.replace(b'"use_pickle": false', b'"use_pickle": true')
        if name.endswith("weights_config.json")
        else content
    )


TOUCH = "__import__('os').open('{path}', 64)"


@pytest.mark.parametrize("place", ["operator", "expression", "name", "guard", "samples", "weights"])
def test_what_could_run_code_is_not_loaded(tmp_path: Path, place: str) -> None:
    dims = {"x": {0: torch.export.Dim("rows")}}
    path = exported(Net(), tmp_path / "net.pt2", torch.ones(2, 3), dims=dims)
    ran = tmp_path / "ran"
    touch = TOUCH.format(path=ran)
    content = zipfile.ZipFile(path).read("net/models/model.json").decode()
    symbol = json.loads(content)["range_constraints"].popitem()[0]
    change = {
        "operator": in_graph("torch.ops.aten.linear.default", "torch.os.system"),
        "expression": in_graph(f"Symbol('{symbol}', positive=True, integer=True)", touch),
        "name": in_graph('"linear"', f'"a{touch}"'),
        "guard": in_graph('"guards_code": []', f'"guards_code": ["{touch}"]'),
        "samples": samples(ran),
        "weights": weights,
    }[place]
    with pytest.raises(UnsafeFormatError, match=r"unsafe_format: changed\.pt2 is a program .* --trust changed"):
        inspect(Question(rewritten(path, change)))
    assert not ran.exists()


def check_loaded(path: Path, module: torch.nn.Module, **declared: Any) -> None:
    """Load the file once, and compare batches of several lengths."""
    described = inspect(Question(path, declared=read_declared(declared, "of the test")))[0]
    model = load({**described, "options": {"threads": 1, "writable_inputs": False}})
    for count in (1, 3, 8):
        found = model.predict([X[:count]])
        same(dict(zip(("logits", "total"), found, strict=True)), answers(module)({"x": X[:count]}), 1e-5)


def test_a_compiled_program_answers_as_its_module(tmp_path: Path) -> None:
    module = Net()
    dims = {"x": {0: torch.export.Dim("rows")}}
    path = exported(module, tmp_path / "net.pt2", torch.ones(2, 3), dims=dims)
    check_loaded(path, module, runtime_options={"compile": True})


def test_a_package_of_native_code_answers_as_its_module(tmp_path: Path) -> None:
    module = Net().eval()
    dims = {"x": {0: torch.export.Dim("rows", max=64)}}
    program = torch.export.export(module, (torch.ones(2, 3),), dynamic_shapes=dims)
    path = tmp_path / "native.pt2"
    torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=QUICK)
    outputs = [
        {"name": "logits", "datatype": "FP32", "shape": ["batch", 2]},
        {"name": "total", "datatype": "FP32", "shape": ["batch"]},
    ]
    inputs = [{"name": "x", "datatype": "FP32", "shape": ["batch", 3]}]
    check_loaded(path, module, trust=True, inputs=inputs, outputs=outputs)


def test_a_native_package_is_loaded_only_where_it_is_trusted(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "native.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("native/archive_format", "pt2")
        archive.writestr("native/data/aotinductor/model/model.wrapper.so", b"\x7fELF")
    assert runtime_for(path).ABOUT.title == "torch.export programs"
    told = refusal(serve, path)
    assert "unsafe_format" in told
    assert "AOTInductor" in told
    assert "inputs = [{ name" in refusal(serve, path, "--trust", "native")


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    check_damage(serve, exported(Net(), tmp_path / "model1.pt2", torch.ones(1, 3)))
