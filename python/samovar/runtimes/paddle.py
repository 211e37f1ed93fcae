"""Runtime of PaddlePaddle's inference models, by its predictor on the processor.

`X.json` (or, of Paddle 2, `X.pdmodel`) is the program and `X.pdiparams` its weights:
https://www.paddlepaddle.org.cn/documentation/docs/en/guides/jit/basic_usage_en.html
"""

import json
import math
import os
import re
import struct
import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from samovar.errors import TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, json_start, peek
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.protobuf import BrokenMessageError, fields, first
from samovar.runtimes.tensors import FileTensor, fixed_batch, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inference", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "samovar.runtimes.paddle_import")
ABOUT = About(
    "PaddlePaddle inference models",
    extra="paddle",
    recognised_by="JSON with base_code, or suffix .pdmodel, beside the weights in .pdiparams; a folder with both",
    signature_from="the program",
    safety="safe",
)

_PROGRAMS = (".json", ".pdmodel")
_WEIGHTS = ".pdiparams"
_CURE = "save it again with paddle.jit.save"
_PARAMETER = b'"#":"p"'  # an operator that takes one of the weights
_DATA, _FETCH = ".data", ".fetch"  # the ends of operators that take inputs and give outputs
_KINDS = {  # of the JSON
    "t_bool": Datatype.BOOL,
    "t_ui8": Datatype.UINT8,
    "t_i8": Datatype.INT8,
    "t_i16": Datatype.INT16,
    "t_i32": Datatype.INT32,
    "t_i64": Datatype.INT64,
    "t_f16": Datatype.FP16,
    "t_bf16": Datatype.BF16,
    "t_f32": Datatype.FP32,
    "t_f64": Datatype.FP64,
}
_NUMBERS = {  # of framework.proto, VarType.Type
    0: Datatype.BOOL,
    1: Datatype.INT16,
    2: Datatype.INT32,
    3: Datatype.INT64,
    4: Datatype.FP16,
    5: Datatype.FP32,
    6: Datatype.FP64,
    20: Datatype.UINT8,
    21: Datatype.INT8,
    22: Datatype.BF16,
}
# Bytes of an element, by the same numbers: of what can be sent, and of what only weights can be.
_WIDTHS: dict[int | None, int] = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}
_WIDTHS |= {32: 1, 33: 1, 36: 2, 37: 4, 38: 8}
# Field numbers of framework.proto: ProgramDesc, BlockDesc, VarDesc, VarType, its tensor, OpDesc and its variables.
_BLOCKS = 1
_VARIABLES, _OPERATORS = 3, 4
_NAME, _TYPE = 1, 2
_DENSE_TENSOR, _TENSOR = 3, 1
_DATA_TYPE, _DIMS = 1, 2
_OPERATOR_INPUTS, _OPERATOR_OUTPUTS, _OPERATOR_TYPE = 1, 2, 3
_ARGUMENTS = 2


def recognise(path: Path) -> Sure:
    """Programs by their first bytes, and folders with one program and its weights."""
    if path.is_dir():
        return Sure.CERTAIN if len(_programs(path)) == 1 else Sure.NO
    if path.suffix.lower() == ".pdmodel":
        return Sure.LIKELY if peek(path, 1) == b"\n" else Sure.NAME
    return Sure.CERTAIN if json_start(path, "base_code", "program") else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a program, without Paddle. Raises TargetError or ConfigError."""
    options = runtime_options(question, {"onednn": True})
    program = _program(question.path)
    _check_weights(program.with_suffix(_WEIGHTS))
    inputs, outputs = _from_json(program) if program.suffix == ".json" else _from_protobuf(program)
    signature = signature_of(program.name, inputs, outputs, question.declared)
    return [
        describe(
            question,
            "paddle",
            signature,
            question.declared.options,
            IMPORTS,
            read_from=f"the program {program.name}",
            runtime_options=options,
            **fixed_batch(signature, "save it with None as the length of the first axis in input_spec"),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a model for the processor. Raises TargetError or ConfigError."""
    check_options(Path(spec["source"]["path"]), spec["options"])
    program = _program(Path(spec["source"]["path"]))
    _check_weights(program.with_suffix(_WEIGHTS))
    predictor = _predictor(program, spec["options"]["threads"], onednn=spec["source"]["runtime_options"]["onednn"])
    signature = Signature.from_json(spec)

    names, found = predictor.get_input_names(), predictor.get_output_names()

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        tensors = predictor.run([_tensor(inputs[name]) for name in names])
        return {name: _array(tensor) for name, tensor in zip(found, tensors, strict=True)}

    return FileModel(signature, run)


def _tensor(array: Any) -> Any:
    import paddle

    if array.dtype.name == "bfloat16":  # numpy arrays of which Paddle does not know
        return paddle.to_tensor(array.astype("float32")).astype("bfloat16")
    return paddle.to_tensor(array)


def _array(tensor: Any) -> Any:
    import paddle

    if tensor.dtype == paddle.bfloat16:
        import ml_dtypes

        return tensor.numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _predictor(program: Path, threads: int, *, onednn: bool) -> Any:
    paddle = inference()
    config = paddle.Config(str(program), str(program.with_suffix(_WEIGHTS)))
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads)
    if not onednn:
        config.disable_onednn()
    try:
        return paddle.create_predictor(config)
    except Exception as error:
        raise TargetError(f"Paddle cannot load {program.name}: {_fault(text_of(error))}", _CURE) from error


def inference() -> Any:
    """Paddle's module of predictors. Raises TargetError where it is missing.

    Its library takes its own functions before those of others: behind TensorFlow's, which has other versions of the
    same, the import ends in a segmentation fault (Paddle 3.3, TensorFlow 2.21).
    """
    flags = sys.getdlopenflags()
    if "tensorflow" in sys.modules:
        sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing compiler cache
            return imported("paddle.inference", ABOUT)
    finally:
        sys.setdlopenflags(flags)


def _fault(text: str) -> str:
    """The fault alone, without the lines of Paddle's own program."""
    return re.sub(r"\s*\[Hint:.*|\s*\(at /paddle/.*", "", text, flags=re.DOTALL).strip()


def _programs(folder: Path) -> list[Path]:
    """Programs in it that have weights."""
    try:
        files = {file.name for file in folder.iterdir()}
    except OSError:
        return []
    stems = sorted(name.removesuffix(_WEIGHTS) for name in files if name.endswith(_WEIGHTS))
    return [folder / f"{stem}{suffix}" for stem in stems for suffix in _PROGRAMS if f"{stem}{suffix}" in files]


def _program(path: Path) -> Path:
    """The program of a path, which has weights beside it. Raises TargetError."""
    if path.is_dir():
        found = _programs(path)
        if len(found) != 1:
            names = ", ".join(program.name for program in found) or "none"
            raise TargetError(f"{path.name} should have one program with {_WEIGHTS}: it has {names}", "name its file")
        return found[0]
    weights = path.with_suffix(_WEIGHTS)
    if not weights.is_file() and (path.suffix.lower() == ".pdmodel" or _PARAMETER in path.read_bytes()):
        raise TargetError(f"the weights of {path.name} are in {weights.name}, which does not exist", "put it beside it")
    return path


def _check_weights(file: Path) -> None:
    """Refuse weights that end too early, which Paddle 3.3 takes as they are. Raises TargetError.

    Each tensor is a version, how many levels of detail, a version again, a description with its size, and the elements:
    https://github.com/PaddlePaddle/Paddle/blob/develop/paddle/phi/core/framework/dense_tensor_tostream.cc
    """
    if not file.exists():  # of a model that has none
        return
    size, place = file.stat().st_size, 0
    with file.open("rb") as content:
        try:
            while place < size:
                place = _end_of_tensor(content, place)
        except (struct.error, BrokenMessageError):
            raise TargetError(f"{file.name} is no file of Paddle's weights", f"fetch it again, or {_CURE}") from None
    if place > size:
        fault = f"{file.name} is cut off: {size} bytes, {place} are announced"
        raise TargetError(fault, f"fetch it again, or {_CURE}")


def _end_of_tensor(content: BinaryIO, start: int) -> int:
    """Where the tensor ends that starts there. Raises struct.error or BrokenMessageError."""
    content.seek(start)
    _, levels = struct.unpack("<IQ", content.read(12))
    if levels:  # of sequences, which weights are not
        raise BrokenMessageError
    _, length = struct.unpack("<II", content.read(8))
    numbers = list(fields(memoryview(content.read(length))))
    kind = _first_int(numbers, _DATA_TYPE)
    if kind not in _WIDTHS:
        raise BrokenMessageError
    lengths = [value for number, value in numbers if number == _DIMS and isinstance(value, int)]
    return content.tell() + _WIDTHS[kind] * math.prod(lengths)


def _first_int(numbers: list[tuple[int, memoryview | int]], wanted: int) -> int | None:
    return next((value for number, value in numbers if number == wanted and isinstance(value, int)), None)


Tensors = tuple[list[FileTensor], list[FileTensor]]


def _from_json(program: Path) -> Tensors:
    """Inputs and outputs of a program of Paddle 3. Raises TargetError."""
    try:
        operators = json.loads(program.read_bytes())["program"]["regions"][0]["blocks"][0]["ops"]
        tensors = [
            [_of_operator(program, operator) for operator in operators if operator["#"].endswith(kind)]
            for kind in (_DATA, _FETCH)
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        fault = foreign(program)
        cure = fault.next_step if fault is not None and "text" not in fault.message else _CURE
        raise TargetError(f"{program.name} is no whole program of Paddle: {text_of(error)}", cure) from None
    return tensors[0], tensors[1]


def _of_operator(program: Path, operator: dict[str, Any]) -> FileTensor:
    names = [attribute["AT"]["D"] for attribute in operator["A"] if attribute["N"] == "name"]
    kind, shape = operator["O"][0]["TT"]["D"][:2]
    return _file_tensor(program, names[0], _KINDS.get(kind["#"].rpartition(".")[2]), shape)


def _from_protobuf(program: Path) -> Tensors:
    """Inputs and outputs of a program of Paddle 2. Raises TargetError."""
    variables: dict[str, memoryview] = {}
    ends: dict[str, list[str]] = {"feed": [], "fetch": []}
    try:
        for number, content in fields(first(memoryview(program.read_bytes()), _BLOCKS) or memoryview(b"")):
            if number == _VARIABLES and not isinstance(content, int):
                variables[_text(first(content, _NAME))] = content
            elif number == _OPERATORS and not isinstance(content, int):
                kind = _text(first(content, _OPERATOR_TYPE))
                if kind in ends:
                    side = first(content, _OPERATOR_OUTPUTS if kind == "feed" else _OPERATOR_INPUTS)
                    ends[kind].append(_text(None if side is None else first(side, _ARGUMENTS)))
        inputs, outputs = ([_of_variable(program, name, variables[name]) for name in names] for names in ends.values())
    except (BrokenMessageError, LookupError):
        raise TargetError(
            f"{program.name} is no whole program of Paddle", f"fetch the file again, or {_CURE}"
        ) from None
    return inputs, outputs


def _of_variable(program: Path, name: str, variable: memoryview) -> FileTensor:
    message: memoryview | None = variable
    for number in (_TYPE, _DENSE_TENSOR, _TENSOR):
        message = None if message is None else first(message, number)
    numbers = list(fields(message or memoryview(b"")))
    shape = [value for number, value in numbers if number == _DIMS and isinstance(value, int)]
    kind = _first_int(numbers, _DATA_TYPE)
    return _file_tensor(program, name, None if kind is None else _NUMBERS.get(kind), shape)


def _text(value: memoryview | None) -> str:
    return bytes(value or b"").decode("utf-8", "replace")


def _file_tensor(program: Path, name: str, datatype: Datatype | None, shape: list[int]) -> FileTensor:
    """A tensor as others are: -1, or its 64 bits without a sign, is any length, in the first place the batch."""
    if datatype is None:
        known = ", ".join(datatype.name for datatype in _KINDS.values())
        raise TargetError(f'"{name}" of {program.name} is no tensor that can be sent', f"cast it to one of {known}")
    is_any = [not 0 <= axis < 1 << 63 for axis in shape]
    axes = [-1 if free else axis for free, axis in zip(is_any, shape, strict=True)]
    return FileTensor(name, datatype, ("batch", *axes[1:]) if is_any[:1] == [True] else tuple(axes))
