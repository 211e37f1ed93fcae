"""What every format goes through: served answers beside those of the framework, and files that cannot be served."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from samovar.config import Configuration, ServerConfig
from samovar.config.declared import Declared
from samovar.repository.settings import question_of
from samovar.repository.sources import Source
from samovar.repository.targets import Target
from samovar.runtimes import Question, describe, runtime_named
from samovar.types import Signature
from serving import NotReadyError, Serve, Served

Arrays = Mapping[str, np.ndarray]


def rows(arrays: Arrays, count: int) -> dict[str, np.ndarray]:
    """The first rows of each."""
    return {name: array[:count] for name, array in arrays.items()}


def check_answers(
    serve: Serve,
    target: Path,
    inputs: Arrays,
    expected: Callable[[Arrays], Arrays],
    *,
    options: str = "",
    arguments: list[str] | None = None,
    tolerance: float = 1e-5,
    has_batches: bool = True,
) -> Served:
    """Serve a file with two instances, and compare each batch by each door; the engine, for more questions.

    `inputs` have the most rows of a batch in their first axis; `expected` asks the framework itself. `options` are
    further lines of the model's table in samovar.toml.
    """
    name = target.stem
    settings = target.parent / f"settings-{name}.toml"
    settings.write_text(f"[models.{name}]\ninstances = 2\n{options}\n")
    served = serve(str(target), options=["--config", str(settings), *(arguments or [])], timeout_s=120.0)
    most = len(next(iter(inputs.values())))
    for count in sorted({1, 3, most}) if has_batches else (most,):
        some = rows(inputs, count)
        wanted = expected(some)
        for _ in range(2):  # each instance answers sooner or later
            same(served.http.infer(name, some).arrays(), wanted, tolerance)
            same(served.http.infer_binary(name, some).arrays(), wanted, tolerance)
            same(served.grpc.infer(name, some).arrays(), wanted, tolerance)
            same(served.grpc.infer_binary(name, some).arrays(), wanted, tolerance)
    return served


def asked(target: Path, declared: Declared | None = None) -> Question:
    """What an engine asks about a file or folder, with all that samovar.toml says, and these keys above it."""
    source = Source(Target(target, declared=declared or Declared()), target, name=target.stem, version="1")
    return question_of(source, Configuration(ServerConfig()))


def answers(target: Path, inputs: Arrays, declared: Declared | None = None) -> dict[str, np.ndarray]:
    """What the runtime of a file answers in this process: for the many kinds of one format, where an engine is slow."""
    description = describe(Question(target, declared=declared or Declared()))[0]
    options = {"threads": 1, "writable_inputs": False, **description["options"]}
    model = runtime_named(description["runtime"]).load({**description, "options": options})
    found = model.predict([inputs[tensor["name"]] for tensor in description["inputs"]])
    outputs = Signature.from_json(description).outputs
    for tensor, array in zip(outputs, found, strict=True):
        assert tensor.datatype is not None
        assert array.dtype == tensor.datatype.numpy_name, tensor
    return {tensor.name: array for tensor, array in zip(outputs, found, strict=True)}


def same(found: Arrays, wanted: Arrays, tolerance: float) -> None:
    """Equal names, shapes and values; texts are compared as bytes."""
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        if array.dtype == object:
            assert [_bytes(value) for value in found[name].ravel()] == [_bytes(value) for value in array.ravel()], name
            assert found[name].shape == array.shape, name
            continue
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance, err_msg=name)
        assert found[name].shape == array.shape, name


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def refusal(serve: Serve, target: Path, *arguments: str) -> str:
    """What is told of a file that cannot be served; the engine ends, since it has nothing else."""
    try:
        serve(str(target), options=list(arguments), timeout_s=120.0)
    except NotReadyError as error:
        return str(error)
    raise AssertionError(f"{target} is served")


def check_damage(serve: Serve, target: Path, *words: str, is_named: bool = True) -> None:
    """A file cut in half, and one of noise, are refused with these words, while a neighbour is served.

    Noise is, where the suffix is no sign of the format (not `is_named`), noise after the first bytes of the file.
    """
    content = target.read_bytes()
    noise = (b"" if is_named else content[:64]) + bytes(range(256)) * 8
    for place, damaged in (("cut", content[: len(content) // 2]), ("noise", noise)):
        folder = target.parent / place
        folder.mkdir()
        broken = folder / target.name
        broken.write_bytes(damaged)
        served = serve(str(broken), "echo.py:EchoFp32", timeout_s=120.0)
        assert served.http.get("/v2/models/echo_fp32/ready").status == 200
        (told,) = served.errors(1)
        fault = json.dumps(told)
        for word in words:
            assert word in fault, fault
