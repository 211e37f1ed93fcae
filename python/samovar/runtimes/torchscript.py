"""Runtime of TorchScript archives, by torch.

An archive says the names of its inputs and how many outputs it has. Datatypes and shapes are what samovar.toml
declares, beside the file or inside the archive, and unknown otherwise.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from samovar.config.declared import Declared, read_declared
from samovar.errors import ConfigError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import ZIP, foreign, head, zip_names
from samovar.runtimes.files import check_options, describe, imported, runtime_options
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchmodel import DEVICE, TorchModel, channels_last, device_of, refuse_texts, use_threads
from samovar.types import Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "torch")
ABOUT = About(
    "TorchScript models",
    extra="torch",
    recognised_by="zip archive with code/ and constants.pkl; suffix .pt, .pth or .ts",
    signature_from="names by its code; datatypes and shapes by samovar.toml, beside it or inside",
    safety="safe to load; its code runs when it is called",
)

_SUFFIXES = (".pt", ".pth", ".ts")
_SETTINGS = "samovar.toml"
_CONVERT = "save torch.jit.script(model) or torch.jit.trace(model, example), or write a Python class that loads it"
_TENSORS = ("Tensor", "Optional[Tensor]")
_OPEN = ("ListType", "DictType")  # of any length, as far as the type says
_OPTIONS = {**DEVICE, "channels_last": False, "freeze": False}


def recognise(path: Path) -> Sure:
    """Zip archives with code; of other files with a suffix of torch `inspect` says what is in them."""
    names = zip_names(path)
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return Sure.CERTAIN
    return Sure.NAME if path.suffix.lower() in _SUFFIXES else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of an archive. Raises TargetError or ConfigError."""
    path = question.path
    _check_archive(path)
    module, settings = _module(path)
    schema = _schema(path, module)
    declared = question.declared.over(settings)
    inputs = [FileTensor(name) for name in _inputs(path, schema, declared)]
    (result,) = module.inlined_graph.outputs()
    outputs = [FileTensor(name) for name in _outputs(path, result, declared)]
    signature = signature_of(path.name, inputs, outputs, declared)
    refuse_texts(path, signature)
    read_from = (
        "names by its code; datatypes and shapes by samovar.toml" if declared.inputs else "its code: names alone"
    )
    source = {} if declared.preprocess is None else {"preprocess": declared.preprocess}
    source["runtime_options"] = runtime_options(replace(question, declared=declared), _OPTIONS)
    return [describe(question, "torchscript", signature, declared.options, IMPORTS, read_from=read_from, **source)]


def load(spec: dict[str, Any]) -> TorchModel:
    """Load a version. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    options = spec["source"]["runtime_options"]
    check_options(path, spec["options"])
    imported("torch", ABOUT)
    device = device_of(path, options)
    module, _ = _module(path, device)
    use_threads(spec["options"]["threads"])
    is_writing = _writes(module) and not spec["options"]["writable_inputs"]
    module = _frozen(path, module.eval()) if options["freeze"] else module.eval()
    call = channels_last(module) if options["channels_last"] else module
    return TorchModel(_with_short_faults(call), Signature.from_json(spec), copies_inputs=is_writing, device=device)


def _frozen(path: Path, module: Any) -> Any:
    """The module with its weights as constants, so that operators can be fused."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as at the load
            return torch.jit.freeze(module)
    except Exception as error:
        raise TargetError(f"{path.name} cannot be frozen: {text_of(error)}", "remove the option freeze") from error


def _with_short_faults(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call; what goes wrong in it without the traceback that torch puts before it."""

    def run(**inputs: Any) -> Any:
        try:
            return call(**inputs)
        except Exception as error:
            fault = _fault(str(error))
            if fault == str(error):
                raise
            raise RuntimeError(fault) from error

    return run


def _check_archive(path: Path) -> None:
    """Refuse what is no whole TorchScript archive, without torch. Raises TargetError."""
    import zipfile  # for the engine, which only recognises, to do without; as tomllib below

    if not head(path).startswith(ZIP):
        fault = foreign(path)
        if fault is None:
            raise TargetError(f"{path.name} is no TorchScript archive", _CONVERT)
        cure = _CONVERT if "pickle" in fault.message else fault.next_step
        raise TargetError(f"{fault.message}, no TorchScript archive", cure)
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise TargetError(
            f"{path.name} is a damaged archive: {text_of(error)}", "fetch or save the file again"
        ) from None
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return
    if "data.pkl" in names:
        raise TargetError(f"{path.name} holds weights or a pickled module (torch.save), no TorchScript", _CONVERT)
    if "archive_format" in names:
        raise TargetError(
            f"{path.name} is a program of torch.export, no TorchScript", f"export it to ONNX; or {_CONVERT}"
        )
    raise TargetError(f"{path.name} is a zip archive without TorchScript code", _CONVERT)


def _module(path: Path, device: Any = "cpu") -> tuple[Any, Declared]:
    """The module of an archive, and what the settings inside of it declare."""
    torch = imported("torch", ABOUT)
    files = {_SETTINGS: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer versions of torch call the format deprecated at every load
            module = torch.jit.load(path, map_location=device, _extra_files=files)
    except Exception as error:
        raise _refusal(path, text_of(error), torch.__version__) from error
    return module, _settings(path, files[_SETTINGS])


def _settings(path: Path, text: str | bytes) -> Declared:
    import tomllib

    where = f"in {_SETTINGS} inside of {path.name}"
    try:
        table = tomllib.loads(text if isinstance(text, str) else text.decode())
    except ValueError as error:
        raise ConfigError(f"the settings {where} cannot be read: {error}") from error
    return read_declared(table, where)


def _refusal(path: Path, text: str, version: str) -> TargetError:
    _, found, operator = text.partition("Unknown builtin op: ")
    if found:
        name = operator.split()[0].rstrip(".")
        return TargetError(
            f"{path.name} uses the operator {name}, which torch alone does not have",
            "write a Python class that imports the package of that operator and loads the file",
        )
    return TargetError(
        f"torch {version} cannot load {path.name}: {text.splitlines()[0]}", "fetch or save the file again"
    )


def _schema(path: Path, module: Any) -> Any:
    forward = getattr(module, "forward", None)
    if forward is None:
        raise TargetError(f"{path.name} has no method forward", "save a module that has one")
    return forward.schema


def _inputs(path: Path, schema: Any, declared: Declared) -> list[str]:
    """Arguments of `forward` that are sent: what has a default is left out unless it is a tensor and declared."""
    wanted = {tensor.name for tensor in declared.inputs or ()}
    names = []
    for argument in schema.arguments[1:]:  # behind self
        kind = str(argument.type)
        if kind not in _TENSORS:
            if argument.has_default_value():
                continue
            raise TargetError(
                f'argument "{argument.name}" of forward in {path.name} is {kind}, no tensor',
                "give it a default, or wrap the module in one whose forward takes tensors alone",
            )
        if not argument.has_default_value() or argument.name in wanted:
            names.append(argument.name)
    return names


def _outputs(path: Path, result: Any, declared: Declared) -> list[str]:
    """Names of the outputs: those that are declared, else keys of a dict, else `output`, or `output_0` and so on."""
    names = None if declared.outputs is None else [tensor.name for tensor in declared.outputs]
    kind = result.type()
    if names and kind.kind() in _OPEN:
        _refuse_unless_tensor(path, kind.containedTypes()[-1])
        return names
    leaves = list(_leaves(path, kind, result))
    found = leaves if kind.kind() == "DictType" else _numbered(len(leaves))
    if names is not None and len(names) != len(found):
        raise TargetError(
            f"{len(names)} outputs are declared, but forward in {path.name} returns {len(found)}", "declare each"
        )
    return found if names is None else names


def _numbered(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _leaves(path: Path, kind: Any, value: Any) -> Iterator[str]:
    """The key, or nothing, for each tensor of a result of some type. Raises TargetError.

    How many tensors a list or dict has, and under which keys, says the node of the graph that makes the value, unless
    others change it afterwards.
    """
    node = None if value is None or len(value.uses()) != 1 else value.node()
    wanted = f"prim::{kind.kind().removesuffix('Type')}Construct"
    values = list(node.inputs()) if node is not None and node.kind() == wanted else None
    match kind.kind():
        case "NoneType":
            return
        case "TupleType" if values is None:
            for element in kind.elements():
                yield from _leaves(path, element, None)
        case "TupleType" | "ListType" if values is not None:
            for inner in values:
                yield from _leaves(path, inner.type(), inner)
        case "DictType" if values is not None:
            for key, inner in zip(values[::2], values[1::2], strict=True):
                _refuse_unless_tensor(path, inner.type())
                yield str(key.toIValue())
        case "ListType" | "DictType":
            _refuse_unless_tensor(path, kind.containedTypes()[-1])
            raise TargetError(
                f"forward in {path.name} returns {kind}, which does not say how many",
                f'name them in {_SETTINGS}: outputs = [{{ name = "boxes" }}, ...]',
            )
        case _:
            _refuse_unless_tensor(path, kind)
            yield ""


def _refuse_unless_tensor(path: Path, kind: Any) -> None:
    if str(kind) != "Tensor":
        raise TargetError(
            f"forward in {path.name} returns {kind}, no tensor",
            "wrap the module in one whose forward returns a tensor, or a tuple, list or dict of them",
        )


def _writes(module: Any) -> bool:
    """Whether some operation writes into a tensor: inputs are read-only memory, and a write there would be a crash."""

    def in_block(block: Any) -> bool:
        return any(writes(node) or any(map(in_block, node.blocks())) for node in block.nodes())

    def writes(node: Any) -> bool:
        # Calls that could not be inlined hide what they do; "(a!)" marks an argument that is written to.
        return node.kind() in ("prim::CallMethod", "prim::CallFunction") or "!" in node.schema()

    return in_block(module.inlined_graph)


def _fault(text: str) -> str:
    """What went wrong, without the traceback that torch puts before it."""
    if "Traceback of TorchScript" not in text:
        return text
    return re.split(r"^(?:RuntimeError: |builtins\.)", text, flags=re.MULTILINE)[-1].strip()
