"""Import of a user's file by its path, once per process."""

import importlib.util
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from samovar.errors import SamovarError, TargetError, text_of

__all__ = ["apart", "import_file", "place_in"]


@contextmanager
def apart(path: Path) -> Iterator[None]:
    """Keep what is imported meanwhile from beside the file `path` for that file alone: nobody finds it by name later.

    So a process can hold many files, each with neighbours of the same names, and older states of one.
    """
    own = path if path.is_dir() else path.parent
    folders = {own, _package_folders(path)[0].parent} if _package_folders(path) else {own}
    ours = [str(folder) for folder in folders if str(folder) not in sys.path]
    known = set(sys.modules)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in [name for name in list(sys.modules) if name not in known and _is_in(folders, name)]:
            del sys.modules[name]
        for folder in ours:
            with suppress(ValueError):  # it has not been put there, or the file itself took it away
                sys.path.remove(folder)


def import_file(path: Path) -> ModuleType:
    """Run the file and return its module: part of its package where its folder has an `__init__.py`, else on its own.

    The folder of the file, or that of the package, comes first on `sys.path`, as if Python had started it. Raises
    TargetError with the exception as cause; an error of this package (of a decorator, say) passes as it is.
    """
    dotted = _dotted_name(path)
    try:
        return _import_alone(path) if dotted is None else _import_in_package(path, dotted)
    except SamovarError:
        raise
    except FileNotFoundError as error:
        if path.exists():  # it is another file that its code looks for
            raise TargetError(f"{path.name} cannot be imported: {_summary(error)}", _cure(path, error)) from error
        raise TargetError(f"{path.name} is gone", "put it back") from None
    except BaseException as error:  # sys.exit() in a user's file is a fault of that file too
        raise TargetError(f"{path.name} cannot be imported: {_summary(error)}", _cure(path, error)) from error


def place_in(file: Path | str, error: BaseException) -> str | None:
    """Where to look: the innermost line of the user's own file, as deeper ones are a library's."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        lines.append(error.lineno)
    return f"see {Path(file).name}, line {lines[-1]}" if lines and lines[-1] else None


def _import_alone(path: Path) -> ModuleType:
    """The file as a module named like it."""
    name = _module_name(path)
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    _put_on_path(path.parent)
    return _run(name, path)


def _import_in_package(path: Path, name: str) -> ModuleType:
    """The file as the module `name`, so that relative imports and those by name find the same modules."""
    depth = name.count(".") + (path.name == "__init__.py")
    _put_on_path(path.parents[depth])
    loaded = sys.modules.get(name)
    found = loaded.__file__ if loaded is not None else getattr(importlib.util.find_spec(name), "origin", None)
    if found is None or not path.samefile(found):
        raise TargetError(
            f"{path} is module {name} of its package, but Python finds {found} under that name",
            "rename the package, or remove the other from PYTHONPATH",
        )
    if loaded is not None:
        return loaded
    module = _run(name, path)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


class _FromSource(SourceFileLoader):
    """Runs the file as it is now: bytecode counts as fresh when the source has the same size and second of change."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Without this no bytecode is looked for, nor written (importlib.abc.SourceLoader)."""
        raise OSError(f"the bytecode of {path} is not used")


def _run(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _is_in(folders: Collection[Path], name: str) -> bool:
    """True if the module `name`, or the package that it is in, was found in one of the folders."""
    top = sys.modules.get(name.partition(".")[0])
    places = list(getattr(top, "__path__", ())) or [getattr(top, "__file__", None) or ""]
    return any(Path(place).parent in folders for place in places)


def _package_folders(path: Path) -> list[Path]:
    """The folders from the package's root down to the file."""
    folders: list[Path] = []
    for folder in path.parents:
        if not (folder / "__init__.py").is_file() or not folder.name.isidentifier():
            break
        folders.insert(0, folder)
    return folders


def _dotted_name(path: Path) -> str | None:
    """The name of the file's module in its package.

    None where it is in no package, or in one whose name Python gives to another: `queue/` must not replace the
    standard library's.
    """
    folders = _package_folders(path)
    if not folders or "." in path.stem:
        return None
    root = folders[0]
    if root.name in sys.stdlib_module_names:
        return None
    loaded = sys.modules.get(root.name)
    if loaded is not None and str(root) not in getattr(loaded, "__path__", ()):
        return None
    module = [] if path.name == "__init__.py" else [path.stem]
    return ".".join([*(folder.name for folder in folders), *module])


def _module_name(path: Path) -> str:
    """The stem, unless that is another module's name: `queue.py` must not replace the standard library's."""
    loaded = getattr(sys.modules.get(path.stem), "__file__", None)
    is_foreign = path.stem in sys.modules and (loaded is None or Path(loaded) != path)
    return f"_served_{path.stem}" if is_foreign or path.stem in sys.stdlib_module_names else path.stem


def _summary(error: BaseException) -> str:
    text = text_of(error)
    if _is_no_field(error):  # what pydantic advises would have the model take anything
        text = text.partition(". Set")[0]
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _is_no_field(error: BaseException) -> bool:
    """True where a pydantic model has a field of a type that pydantic does not know."""
    return type(error).__name__ == "PydanticSchemaGenerationError"


def _cure(path: Path, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install {error.name.partition('.')[0]} in the environment of {sys.prefix}, or remove the import"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return f"{path.name} is run as a file of its own: import its neighbours by name, without leading dots"
    if isinstance(error, ValueError) and text_of(error).startswith("Duplicated timeseries"):
        return "make metrics with samovar.Context().metrics: a worker has one registry, and other models may be in it"
    if isinstance(error, SystemExit):
        return 'guard what a script does with: if __name__ == "__main__":'
    place = place_in(path, error) or f"correct {path.name}"
    if _is_no_field(error):
        return f"a dataclass or NamedTuple may hold arrays and images, a pydantic model may not: {place}"
    return place
