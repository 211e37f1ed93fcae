"""Import of a user's file by its path, once per process."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from samovar.errors import TargetError

__all__ = ["import_file"]


def import_file(path: Path) -> ModuleType:
    """Run the file as a module named like it and return that.

    Its folder comes first on `sys.path`, as if Python had started it. Raises TargetError with the exception as cause.
    """
    name = _module_name(path)
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # sys.exit() in a user's file is a fault of that file too
        del sys.modules[name]
        raise TargetError(f"{path.name} cannot be imported: {_summary(error)}", _cure(path, error)) from error
    return module


def _module_name(path: Path) -> str:
    """The stem, unless that is another module's name: `queue.py` must not replace the standard library's."""
    loaded = getattr(sys.modules.get(path.stem), "__file__", None)
    is_foreign = path.stem in sys.modules and (loaded is None or Path(loaded) != path)
    return f"_served_{path.stem}" if is_foreign or path.stem in sys.stdlib_module_names else path.stem


def _summary(error: BaseException) -> str:
    from samovar.errors import text_of

    return f"{type(error).__name__}: {text_of(error)}".removesuffix(": ")


def _cure(path: Path, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install {error.name.partition('.')[0]} in the environment of {sys.prefix}, or remove the import"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return f"{path.name} is run as a file of its own: import its neighbours by name, without leading dots"
    if isinstance(error, SystemExit):
        return 'guard what a script does with: if __name__ == "__main__":'
    return f"correct {path.name}"
