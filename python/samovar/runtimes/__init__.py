"""Adapters between formats and the engine, one module per format.

Each has four parts: `recognise` a path, `inspect` it (which models it has), `load` a version, and `predict` on what
`load` returns. A package adds a format by an entry point of the group `samovar.runtimes` that names such a module.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from samovar.config.declared import Declared, read_declared
from samovar.errors import ConfigError, TargetError, text_of

__all__ = [
    "RUNTIMES",
    "About",
    "Arrays",
    "LoadedModel",
    "Question",
    "Runtime",
    "Sure",
    "describe",
    "is_model_folder",
    "load",
    "runtime_for",
    "runtime_named",
]

Arrays = Sequence[Any]

_ENTRY_POINTS = "samovar.runtimes"
_SERVICE = "samovar.runtimes.python.serving"  # recognises no file: those of services are Python's
# Suffixes of the files that a format usually has: its module alone is imported for such a file. "/" stands for folders.
_SUFFIXES: dict[str, tuple[str, ...]] = {
    "python": (".py",),
    "onnx": (".onnx",),
    "torchscript": (".pt", ".pth", ".ts"),
    "tensorflow": ("/",),
    "keras": (".keras", ".h5", ".hdf5"),
    "paddle": (".json", ".pdmodel", "/"),
    "torch_export": (".pt2",),
    "pytorch": (".safetensors", ".pt", ".pth", ".bin", "/"),
    "lightning": (".ckpt", ".pt", ".pth", "/"),
    "fastai": (".pkl", ".pt", ".pth"),
    "sklearn": (".skops", ".pkl", ".pickle", ".joblib"),
    "xgboost": (".json", ".ubj"),
    "lightgbm": (".txt",),
    "catboost": (".cbm",),
    "openvino": (".xml",),
    "jax": (".jaxexport",),
    "mlflow": ("/",),
    "bentoml": ("/",),
    "treelite": (".tl", ".treelite"),
    "gguf": (".gguf",),
    "transformers": ("/",),
    "sentence_transformers": ("/",),
    "tensorrt": (".plan", ".engine"),
    "dali": (".dali",),
    "detectron2": ("/",),
    "diffusers": ("/",),
    "easyocr": ("/",),
}
RUNTIMES = tuple(_SUFFIXES)
_PARTS = ("ABOUT", "IMPORTS", "recognise", "inspect", "load")
_faults: dict[str, str] = {}  # why runtimes of other packages are not asked, by name


class Sure(IntEnum):
    """How sure a format is that a path is its own."""

    NO = 0
    NAME = 1
    """Its name says so; what else the content is, `inspect` tells."""
    LIKELY = 2
    """Its content looks so, as that of other formats may."""
    CERTAIN = 3
    """Nothing else has such content."""


@dataclass(frozen=True)
class Question:
    """Which models a path has: what a worker is asked by the verb `describe`.

    `class_name` picks one class of a Python file. `name` and `version` are those that a repository's folders give, and
    `declared` is what samovar.toml says: they stand above what the file itself says.
    """

    path: Path
    class_name: str | None = None
    name: str | None = None
    version: str | None = None
    declared: Declared = field(default_factory=Declared)

    def to_json(self) -> dict[str, Any]:
        """The body of the verb."""
        return {**vars(self), "path": str(self.path), "declared": self.declared.to_json()}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "Question":
        """The reverse of `to_json`."""
        declared = read_declared(body["declared"], f"of {body['path']}")
        return cls(Path(body["path"]), body["class_name"], body["name"], body["version"], declared)


class LoadedModel(Protocol):
    """A version in memory.

    `samples` gives what the model's own `warm_up` does, or an awaitable of that; None where it has none. What
    `is_user_code` may have effects, and runs for requests and its own samples alone unless somebody asks for more.
    """

    is_async: bool
    streams: bool
    is_user_code: bool
    samples: Callable[[], Any] | None

    def start(self) -> Awaitable[None] | None:
        """Run the user's load; an awaitable if that is async. Raises LoadError."""

    def predict(self, inputs: Arrays) -> Any:
        """Run one call on arrays in the order of the signature; its outputs, or an awaitable of them if `is_async`.

        If it `streams`, a generator of the outputs of each part, an asynchronous one if `is_async`; to close it ends
        the user's. Raises OutputError for a result that has not the shape of the signature, and whatever user code
        raises.
        """

    def close(self) -> Awaitable[None] | None:
        """Run the user's unload; an awaitable if that is async. Raises LoadError."""


@dataclass(frozen=True)
class About:
    """What people want to know of a format: a row of docs/formats.md."""

    title: str
    """In a sentence: "ONNX models"."""
    extra: str | None
    """What installs its package, by `pip install 'samovar[extra]'`; None where samovar itself does."""
    recognised_by: str
    signature_from: str
    safety: str
    """"safe", or what can run at a load."""
    tested: str = "end to end"
    """Or "against the API alone", and why."""
    install: str = ""
    """How to get its package, where no extra brings it."""


class Runtime(Protocol):
    """The functions of a runtime module.

    `IMPORTS` are the modules that its models need at a load: a spare worker imports them ahead.
    """

    ABOUT: About
    IMPORTS: tuple[str, ...]

    def recognise(self, path: Path) -> Sure:
        """How sure it is that a path, of a file or a folder, is of its format, by looking and never by executing."""

    def inspect(self, question: Question) -> list[dict[str, Any]]:
        """Describe the models at a path, one object each. Raises TargetError or ConfigError.

        Its keys are those of a version (`crates/core/src/config.rs`) but `probe`; `source` is for `load` and for
        people, and `options` are those fields of ModelConfig that are set.
        """

    def load(self, spec: dict[str, Any]) -> LoadedModel:
        """Make a model of a version's specification; its `start` is still to be called. Raises LoadError."""


def runtime_named(name: str) -> Runtime:
    """The runtime of this name; `service` is the one that hosts services. Raises ConfigError where there is none."""
    if name == "service":
        return import_module(_SERVICE)
    if name in _SUFFIXES:
        return import_module(f"samovar.runtimes.{name}")
    further = _further()
    if name not in further:
        if name in _faults:
            raise ConfigError(f'the runtime "{name}" does not work: {_faults[name]}', "update or remove its package")
        from samovar.config.options import close_match

        raise ConfigError(f'there is no runtime "{name}"', close_match(name, (*_SUFFIXES, *further)))
    return further[name]


def runtime_for(path: Path) -> Runtime:
    """The runtime that is surest of `path`; of two, the first. Raises TargetError where none is."""
    found = _surest(path)
    if found is None:
        from samovar.runtimes.contents import GIVE, foreign

        fault = foreign(path) if path.is_file() else None
        seen = "" if fault is None else f": it{fault.message.removeprefix(path.name)}"
        cure = GIVE if fault is None else fault.next_step
        if cure == GIVE:
            cure = (
                "give a Python file, a model file (.onnx, .pt, .skops ...) or a folder of a format in docs/formats.md; "
                'or name its format in samovar.toml beside it: runtime = "onnx"'
            )
        faults = "".join(f'; the runtime "{name}" could not be asked: {fault}' for name, fault in _faults.items())
        raise TargetError(f"{path.name} has no format that is served{seen}{faults}", cure)
    return found


def is_model_folder(path: Path) -> bool:
    """True for a folder that, as a whole, is one model of some format."""
    return path.is_dir() and _surest(path) is not None


def describe(question: Question) -> list[dict[str, Any]]:
    """The models at a path, by the runtime that samovar.toml names, or else by the one that recognises it.

    Where it declares how images are prepared, they take images. Raises TargetError or ConfigError.
    """
    from samovar.runtimes.preprocess import with_images

    name = question.declared.runtime
    runtime = runtime_for(question.path) if name is None else runtime_named(name)
    return [with_images(question, model) for model in runtime.inspect(question)]


def load(spec: dict[str, Any]) -> LoadedModel:
    """Make a model of a version's specification; its `start` is still to be called. Raises LoadError."""
    runtime = runtime_named(spec["runtime"])
    if "preprocess" not in spec["source"]:
        return runtime.load(spec)
    from samovar.runtimes.preprocess import load_with_images

    return load_with_images(spec, runtime.load)


def _surest(path: Path) -> Runtime | None:
    """First those who know the suffix, then everybody: what is named otherwise is known by its content."""
    suffix = "/" if path.is_dir() else path.suffix.lower()
    usual = [name for name, suffixes in _SUFFIXES.items() if suffix in suffixes]
    others = [name for name in _SUFFIXES if name not in usual] if suffix != "/" else []
    best = _surer((Sure.NO, None), map(runtime_named, usual), path)
    if best[0] is Sure.NAME:
        best = (
            Sure.LIKELY,
            best[1],
        )  # of another format it must be certain: an .onnx that is a pickle is a bad ONNX file
    if best[0] is not Sure.CERTAIN:
        best = _surer(best, map(runtime_named, others), path)
    if best[0] is Sure.CERTAIN:
        return best[1]
    for name, runtime in _further().items():
        try:
            best = _surer(best, [runtime], path)
        except Exception as error:  # noqa: BLE001 - it is of somebody else, and the engine is not to end by it
            _faults[name] = f"recognise raised {text_of(error)}"
        else:
            _faults.pop(name, None)
    return best[1]


def _surer(best: tuple[Sure, Runtime | None], runtimes: Iterable[Runtime], path: Path) -> tuple[Sure, Runtime | None]:
    for runtime in runtimes:
        sure = runtime.recognise(path)
        if sure > best[0]:
            best = sure, runtime
    return best


@cache
def _further() -> dict[str, Runtime]:
    """The runtimes of other packages; why one is not among them is in `_faults`."""
    from importlib.metadata import entry_points

    found: dict[str, Runtime] = {}
    for point in entry_points(group=_ENTRY_POINTS):
        if point.name not in _SUFFIXES:
            try:
                runtime = point.load()
            except Exception as error:  # noqa: BLE001 - as in `_surest`
                _faults[point.name] = f"{point.value} cannot be imported: {text_of(error)}"
                continue
            lacking = [part for part in _PARTS if not hasattr(runtime, part)]
            if lacking:
                _faults[point.name] = f"{point.value} has no {', '.join(lacking)}"
            else:
                found[point.name] = runtime
    return found
