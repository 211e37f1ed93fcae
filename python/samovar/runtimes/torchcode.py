"""Modules whose class is in a Python file beside their weights, as `runtime_options` and samovar.toml name both."""

import inspect as introspection
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError, UnsafeFormatError
from samovar.runtimes import About, Question
from samovar.runtimes.files import check_options, check_trust, imported
from samovar.runtimes.torchmodel import TorchModel, device_of, tuned, use_threads
from samovar.runtimes.weights import built, read_weights, unsafe_globals
from samovar.types import Signature

__all__ = [
    "CODE_OPTIONS",
    "LINES",
    "Place",
    "check_code",
    "checked_inputs",
    "cure",
    "is_named",
    "loaded",
    "parameters",
]

_SETTINGS = "samovar.toml"
CODE_OPTIONS: dict[str, Any] = {"module": None, "weights": None, "arguments": {}}
LINES = (
    'runtime_options = {{ module = "{code}" }}',
    'inputs = [{{ name = "x", datatype = "FP32", shape = ["batch", 3] }}]',
    'outputs = [{{ name = "y", datatype = "FP32", shape = ["batch", 2] }}]',
)


class Place:
    """Where a module's code and weights are; a folder may have one file of weights without saying which."""

    def __init__(self, path: Path, options: dict[str, Any], about: About, suffixes: tuple[str, ...]) -> None:
        self.path = path
        self.about = about
        self.suffixes = suffixes
        self.folder = path if path.is_dir() else path.parent
        self.arguments = options["arguments"]
        self.code, self.name = _code(self.folder, options["module"])
        self.weights = self._weights(options["weights"])

    def module(self, *, is_trusted: bool) -> Any:
        """The module with its weights. Raises TargetError or UnsafeFormatError."""
        torch = imported("torch", self.about)
        content = read_weights(self.weights, self.about, is_trusted=is_trusted)
        if self.code is None:
            if isinstance(content, torch.nn.Module):
                return content
            shown = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in list(content.items())[:3])
            raise TargetError(
                f"{self.weights.name} holds weights alone ({shown}), no code that computes with them",
                cure(self, "pytorch", LINES),
            )
        made = self.maker()
        if isinstance(content, torch.nn.Module):
            content = content.state_dict()
        return built(self.weights, lambda: made(**self.arguments), content)

    def maker(self) -> Any:
        """The class, or function that makes a module, of the user's file. Raises TargetError."""
        from samovar.runtimes.python.importing import import_file

        assert self.code is not None
        found = getattr(import_file(self.code), self.name, None)
        if not callable(found):
            raise TargetError(
                f"{self.code.name} has no class {self.name}", f'name one that it has: module = "{self.code.name}:Net"'
            )
        return found

    def _weights(self, named: str | None) -> Path:
        if named is not None:
            return _inside_of(self.folder, named, "weights")
        if self.path != self.folder:
            return self.path
        found = sorted(file for file in self.folder.iterdir() if file.suffix in self.suffixes)
        if len(found) != 1:
            names = [file.name for file in found] or [f"no file of weights, {', '.join(self.suffixes)}"]
            name = names[0] if found else f"net{self.suffixes[-1]}"
            raise ConfigError(
                f"{self.folder.name} has {', '.join(names)}",
                f'name one: runtime_options = {{ module = "net.py:Net", weights = "{name}" }}',
            )
        return found[0]


def _code(folder: Path, module: str | None) -> tuple[Path | None, str]:
    if module is None:
        return None, ""
    file, separator, name = module.rpartition(":")
    if not separator or not name.isidentifier() or not file.endswith(".py"):
        raise ConfigError(f'runtime option "module" is {module!r}', 'name a file and a class: module = "net.py:Net"')
    return _inside_of(folder, file, "module"), name


def _inside_of(folder: Path, name: str, option: str) -> Path:
    """A file below the folder: what is somewhere else is no part of the model."""
    file = folder / name
    if not file.is_file():
        raise ConfigError(f'runtime option "{option}" names {name}, which is not in {folder}', "put the file there")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f'runtime option "{option}" names {name}, which is outside of {folder}', "put it inside")
    return file


def check_code(question: Question, place: Place) -> bool:
    """Whether the weights are more than data. Raises UnsafeFormatError for what runs code and is not trusted."""
    if place.code is not None and not question.path.is_dir():
        kind = f"run by {place.code.name}, code beside it"
        check_trust(question, kind, f"serve the folder {place.folder.name} with its samovar.toml")
    wanted = unsafe_globals(place.weights, place.about)
    if wanted:
        whose = f"a folder whose weights, {place.weights.name}, are " if question.path.is_dir() else ""
        kind = f"{whose}a pickle with {', '.join(wanted[:3])}"
        check_trust(question, kind, "save model.state_dict(), or its weights with safetensors")
    return bool(wanted)


def loaded(
    spec: dict[str, Any], about: About, suffixes: tuple[str, ...], module_of: Callable[[Place, bool], Any]
) -> TorchModel:
    """Make the module of a version, of its place and of whether that is trusted, ready for calls.

    Raises TargetError, ConfigError or UnsafeFormatError.
    """
    source = spec["source"]
    path, options = Path(source["path"]), source["runtime_options"]
    check_options(path, spec["options"])
    imported("torch", about)
    use_threads(spec["options"]["threads"])
    device = device_of(path, options)
    place = Place(path, options, about, suffixes)
    is_trusted = source.get("trusted", False)
    if place.code is not None and not path.is_dir() and not is_trusted:
        raise UnsafeFormatError(f"unsafe_format: the code beside {path.name} is not trusted", "load it again")
    module = module_of(place, is_trusted)
    copies = not spec["options"]["writable_inputs"]  # any module may write into its inputs
    call = tuned(path, module, options, device)
    return TorchModel(call, Signature.from_json(spec), copies_inputs=copies, device=device)


def parameters(module: Any) -> dict[str, introspection.Parameter]:
    """What `forward` takes."""
    return dict(introspection.signature(module.forward).parameters)


def checked_inputs(path: Path, module: Any, declared: Declared) -> list[str]:
    """The declared names, each of which must be an argument of forward. Raises TargetError."""
    names = [tensor.name for tensor in declared.inputs or ()]
    taken = parameters(module)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    plain = [name for name, parameter in taken.items() if parameter.kind < parameter.VAR_KEYWORD]
    for name in names:
        if name not in plain and not takes_any:
            raise TargetError(
                f'input "{name}" is declared in {_SETTINGS}, but forward of {path.name} takes {", ".join(plain)}',
                "declare the arguments of forward",
            )
    for name, parameter in taken.items():
        is_needed = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if is_needed and name not in names:
            raise TargetError(f'forward of {path.name} needs "{name}", which no input is', f"declare it in {_SETTINGS}")
    return names


def cure(place: Place, runtime_name: str, lines: tuple[str, ...]) -> str:
    """Which lines of samovar.toml are missing."""
    codes = sorted(file.name for file in place.folder.glob("*.py"))
    code = f"{codes[0] if codes else 'net.py'}:Net"
    runtime = [] if place.path.is_dir() else [f'runtime = "{runtime_name}"']
    where = f"in {place.folder.name}/{_SETTINGS}" if place.path.is_dir() else f"in {_SETTINGS} beside it"
    return f"write {where}: {'; '.join([*runtime, *(line.format(code=code) for line in lines)])}"


def is_named(runtime: str, path: Path, suffixes: tuple[str, ...]) -> bool:
    """True for a folder with code or weights whose samovar.toml names the runtime.

    That of a repository may name it for the files in its version folders.
    """
    if _table(path / _SETTINGS).get("runtime") != runtime:
        return False
    return any(file.suffix in (".py", *suffixes) for file in path.iterdir())


def _table(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
