"""Runtime of programs of torch.export (.pt2), and of packages of AOTInductor where they are trusted.

A program is a graph in JSON, with its weights as plain bytes: https://docs.pytorch.org/docs/stable/export/pt2_archive.html
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, TargetError, UnsafeFormatError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, zip_names
from samovar.runtimes.files import check_options, check_trust, describe, imported, runtime_options
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchgraph import danger
from samovar.runtimes.torchmodel import DEVICE, TorchModel, compiled, datatype_of, device_of, refuse_texts, use_threads
from samovar.types import Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "torch")
ABOUT = About(
    "torch.export programs",
    extra="torch",
    recognised_by="zip archive with archive_format and models/ or data/aotinductor/",
    signature_from="the graph; an axis of any length that begins every input is the batch axis",
    safety="safe: names, expressions and operators of the graph are checked; AOTInductor's native code: --trust",
)

_NATIVE = "data/aotinductor/"
_BATCH, _DEFAULT_BATCH = "batch", 64
_LEAST = 2  # exporters write this lower bound for "any length", and one row is taken all the same
_AGAIN = "save it again by torch.export.save"
_OPTIONS = {**DEVICE, "compile": False}
_UNREGISTERED = re.compile(r"Deserializing ([\w.]+) in pytree failed")
_OF_TRANSFORMERS = re.compile(r"transformers\.(modeling_outputs|models\.\w+\.modeling_\w+)")


def recognise(path: Path) -> Sure:
    """Zip archives with the mark of the format."""
    names = zip_names(path)
    if "archive_format" in names and any(name.startswith(("models/", _NATIVE)) for name in names):
        return Sure.CERTAIN
    return Sure.NAME if path.suffix.lower() == ".pt2" else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the program of a file. Raises TargetError, ConfigError, or UnsafeFormatError for what can run code."""
    path = question.path
    options = runtime_options(question, _OPTIONS)
    is_native = _is_native(path)
    imported("torch", ABOUT)
    if is_native:
        check_trust(question, "a native library of AOTInductor", "serve what torch.export.save writes")
        return [_described_library(question, options)]
    fault = danger(path)
    if fault is not None:
        check_trust(question, f"a program of torch.export with {fault}", _AGAIN)
    program = _Program(path)
    signature = signature_of(path.name, program.inputs, program.outputs, question.declared)
    refuse_texts(path, signature)
    batching = program.batching(question) if signature.batch_axis else {}
    return [
        describe(
            question,
            "torch_export",
            signature,
            {**batching, **question.declared.options},
            IMPORTS,
            read_from="the graph",
            runtime_options=options,
            **({} if signature.batch_axis else program.note()),
            **({"trusted": True} if question.declared.trust else {}),
        )
    ]


def load(spec: dict[str, Any]) -> TorchModel:
    """Load a version. Raises TargetError, ConfigError or UnsafeFormatError."""
    source = spec["source"]
    path = Path(source["path"])
    check_options(path, spec["options"])
    imported("torch", ABOUT)
    use_threads(spec["options"]["threads"])
    signature = Signature.from_json(spec)
    device = device_of(path, source["runtime_options"])
    is_native = _is_native(path)
    fault = "native code" if is_native else danger(path)
    if fault is not None and not source.get("trusted"):
        raise UnsafeFormatError(f"unsafe_format: {path.name} has {fault} now, and is not trusted", "load it again")
    if is_native:
        call = _library(path, [tensor.name for tensor in signature.inputs])
        return TorchModel(call, signature, copies_inputs=True, device=device)
    program = _Program(path)
    call = program.call(device)
    if source["runtime_options"]["compile"]:
        call = compiled(call)
    copies = program.writes and not spec["options"]["writable_inputs"]
    return TorchModel(call, signature, copies_inputs=copies, device=device)


class _Program:
    """A program of torch.export, with the tensors of its signature."""

    def __init__(self, path: Path) -> None:
        self._file = path.name
        self._program = _loaded(path)
        values = {node.name: node.meta.get("val") for node in self._program.graph.nodes}
        signature = self._program.graph_signature
        tensors = [value for name in signature.user_inputs if _is_tensor(value := values.get(name))]
        self._symbol = _batch_symbol(tensors)
        self._places: list[Any] = []  # of each input: the name of a tensor, or the constant that stands there
        self.inputs: list[FileTensor] = []
        for spec in signature.input_specs:
            if spec.kind.name == "USER_INPUT":
                self._enter(spec.arg, values)
        self.outputs = [self._tensor(name, values.get(key)) for name, key in self._outputs()]

    @property
    def writes(self) -> bool:
        """Whether some operator writes into a tensor: inputs are read-only memory, and a write would be a crash."""
        return any(
            getattr(getattr(node.target, "_schema", None), "is_mutable", node.op == "call_function")
            for node in self._program.graph.nodes
        )

    def batching(self, question: Question) -> dict[str, Any]:
        """The greatest batch where the range of its axis has an end. Raises ConfigError where more is declared."""
        most = self._range()[1]
        wanted = question.declared.options.get("max_batch_size")
        if most is not None and wanted is not None and wanted > most:
            raise ConfigError(
                f"max_batch_size = {wanted} is set for {self._file}, whose batches have {most} rows at most",
                f"set it to {most}, or export the model with a wider torch.export.Dim",
            )
        return {} if most is None or most >= _DEFAULT_BATCH else {"max_batch_size": most}

    def note(self) -> dict[str, Any]:
        """Why it has no batch axis, where the export has fixed one."""
        firsts = {tensor.shape[0] for tensor in self.inputs if tensor.shape}
        if len(firsts) != 1 or not isinstance(first := firsts.pop(), int) or first < 1:
            return {}
        cure = 'export it with dynamic_shapes = ({0: torch.export.Dim("batch")},) to have batches'
        return {"note": f"one call at a time: the export has fixed the first axis to {first}; {cure}"}

    def call(self, device: Any) -> Callable[..., Any]:
        """The program on a device as a function of its tensors by name, which gives its tensors alone."""
        from torch.export.passes import move_to_device_pass
        from torch.utils import _pytree as pytree

        program = self._program if device.type == "cpu" else move_to_device_pass(self._program, device)
        module, places, structure = program.module(), self._places, program.call_spec.in_spec
        specs = program.graph_signature.output_specs
        kept = [index for index, spec in enumerate(_of_user(specs)) if hasattr(spec.arg, "name")]

        def call(**tensors: Any) -> list[Any]:
            values = [tensors[place.name] if isinstance(place, FileTensor) else place for place in places]
            arguments, keywords = pytree.tree_unflatten(values, structure)
            leaves = pytree.tree_leaves(module(*arguments, **keywords), is_leaf=_is_nothing)
            return [leaves[index] for index in kept]

        return call

    def _enter(self, argument: Any, values: dict[str, Any]) -> None:
        """An input of the call: a tensor that is sent, or a constant of the export."""
        if hasattr(argument, "value"):
            self._places.append(argument.value)
            return
        self.inputs.append(self._tensor(argument.name, values.get(argument.name)))
        self._places.append(self.inputs[-1])

    def _outputs(self) -> Iterator[tuple[str, str]]:
        """Names for people, those of a dictionary where it returns one, and in the graph."""
        specs = list(_of_user(self._program.graph_signature.output_specs))
        structure = self._program.call_spec.out_spec
        keys = list(_keys(structure)) if _is_keyed(structure) else [""] * len(specs)
        seen: set[str] = set()
        for index, (spec, key) in enumerate(zip(specs, keys, strict=True)):
            if not hasattr(spec.arg, "name"):
                continue
            name = key or spec.arg.name
            name = f"{name}_{index}" if name in seen else name  # one tensor may be returned twice
            seen.add(name)
            yield name, spec.arg.name

    def _tensor(self, name: str, value: Any) -> FileTensor:
        if not _is_tensor(value):
            raise TargetError(
                f'"{name}" of {self._file} is {type(value).__name__}, no tensor',
                "export a module whose inputs and outputs are tensors, or None and constants",
            )
        datatype = datatype_of(value.dtype)
        if datatype is None:
            raise TargetError(
                f'"{name}" of {self._file} is {value.dtype}, no tensor that can be sent',
                "cast it to float32 in the module",
            )
        return FileTensor(name, datatype, tuple(self._axis(place, size) for place, size in enumerate(value.shape)))

    def _axis(self, place: int, size: Any) -> int | str:
        if isinstance(size, int):
            return size
        return _BATCH if place == 0 and str(size) == self._symbol and self._range()[0] <= _LEAST else -1

    def _range(self) -> tuple[int, int | None]:
        """The least and the greatest batch."""
        for symbol, limits in self._program.range_constraints.items():
            if str(symbol) == self._symbol:
                return int(limits.lower), int(limits.upper) if limits.upper.is_Integer else None
        return 0, None


def _is_keyed(structure: Any) -> bool:
    """Whether it is a dictionary, as results of transformers are."""
    keys = structure.context
    return isinstance(keys, list) and len(keys) == len(structure.children()) and all(isinstance(k, str) for k in keys)


def _keys(structure: Any, above: str = "") -> Iterator[str]:
    """For each leaf the keys and places on the way to it: `deep.x.0`."""
    if structure.is_leaf():
        yield above
        return
    parts = structure.children()
    for key, part in zip(structure.context if _is_keyed(structure) else range(len(parts)), parts, strict=True):
        yield from _keys(part, f"{above}.{key}" if above else str(key))


def _of_user(specs: Any) -> Iterator[Any]:
    return (spec for spec in specs if spec.kind.name == "USER_OUTPUT")


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_nothing(value: Any) -> bool:
    return value is None


def _batch_symbol(tensors: list[Any]) -> str | None:
    """The one symbol that begins every input and stands nowhere else in them."""
    firsts = {str(tensor.shape[0]) if tensor.dim() else "" for tensor in tensors}
    others = {str(size) for tensor in tensors for size in tensor.shape[1:]}
    if len(firsts) != 1:
        return None
    symbol = firsts.pop()
    return symbol if symbol.isidentifier() and symbol not in others else None


def _loaded(path: Path) -> Any:
    """The program of a file. Raises TargetError."""
    torch = imported("torch", ABOUT)
    try:
        programs = _programs(path)
    except TargetError:
        raise
    except Exception as error:
        unknown = _UNREGISTERED.search(text_of(error))
        if unknown is not None:
            raise TargetError(
                f"{path.name} takes or returns a {unknown[1]}, a class that is not known here",
                "export a module that takes and returns tensors, tuples, lists and dictionaries",
            ) from error
        raise TargetError(
            f"torch {torch.__version__} cannot load {path.name}: {text_of(error).splitlines()[0]}", _AGAIN
        ) from error
    if len(programs) != 1:
        raise TargetError(f"{path.name} has the programs {', '.join(programs)}", "save each in a file of its own")
    return next(iter(programs.values()))


def _programs(path: Path) -> dict[str, Any]:
    """The programs of an archive by name: torch.export.load finds but one, and does not tell what is wrong.

    Results of transformers are known once their module is imported.
    """
    from torch.export.pt2_archive._package import load_pt2

    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)  # of a suffix that is another it warns, and of symbols that nothing uses
    try:
        programs: dict[str, Any] = load_pt2(str(path)).exported_programs
    except Exception as error:
        unknown = _UNREGISTERED.search(str(error))
        module = unknown[1].rpartition(".")[0] if unknown is not None else ""
        if not _OF_TRANSFORMERS.fullmatch(module) or module in sys.modules:
            raise
        imported(module, replace(ABOUT, extra="transformers"))
        return _programs(path)
    finally:
        log.setLevel(level)
    return programs


def _is_native(path: Path) -> bool:
    """Whether it is a package of AOTInductor. Raises TargetError for what is no whole archive of the format."""
    names = zip_names(path)
    if "archive_format" in names:
        return any(name.startswith(_NATIVE) for name in names)
    if names:
        if "serialized_exported_program.json" in names:
            raise TargetError(f"{path.name} is a program of torch before 2.8", _AGAIN)
        raise TargetError(f"{path.name} is a zip archive without a program of torch.export", _AGAIN)
    fault = foreign(path)
    if fault is None or "zip" in fault.message:
        what = "no program of torch.export" if fault is None else "a damaged archive"
        raise TargetError(f"{path.name} is {what}", "fetch the file again, or save it by torch.export.save")
    raise TargetError(f"{fault.message}, no program of torch.export", fault.next_step)


def _described_library(question: Question, options: dict[str, Any]) -> dict[str, Any]:
    """A library says how many inputs it has, and neither names nor datatypes or shapes."""
    path, declared = question.path, question.declared
    if not declared.inputs or not declared.outputs:
        raise TargetError(
            f"{path.name} is a native library of AOTInductor, which does not say its tensors",
            'declare them in samovar.toml: inputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3] }], '
            'outputs = [{ name = "y", datatype = "FP32", shape = ["batch", 2] }], in the order of forward',
        )
    if options["compile"]:
        raise ConfigError(f"compile is set for {path.name}, which is compiled already", "remove it")
    inputs, outputs = ([FileTensor(one.name) for one in many] for many in (declared.inputs, declared.outputs))
    signature = signature_of(path.name, inputs, outputs, declared)
    refuse_texts(path, signature)
    described = describe(
        question,
        "torch_export",
        signature,
        declared.options,
        IMPORTS,
        read_from="samovar.toml",
        runtime_options=options,
        trusted=True,
    )
    _library(path, [])
    return described


def _library(path: Path, names: list[str]) -> Callable[..., Any]:
    """The compiled module of a package, as a function of its tensors by name. Raises TargetError."""
    imported("torch", ABOUT)
    from torch import _inductor as inductor

    try:
        module = inductor.aoti_load_package(str(path))
    except Exception as error:
        raise TargetError(
            f"{path.name} cannot be loaded: {text_of(error)}", "compile it on a machine of this kind"
        ) from error
    return lambda **tensors: module(*[tensors[name] for name in names])
