"""Runtime of modules of torch in Python code: a class, and weights as safetensors or as a state dict.

    runtime = "pytorch"
    runtime_options = { module = "net.py:Net", weights = "net.safetensors", arguments = { width = 64 } }

with the inputs and outputs, in the samovar.toml of a folder with both files, or beside the weights where those are the
target.
"""

from pathlib import Path
from typing import Any

from samovar.errors import TargetError
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import peek, zip_names
from samovar.runtimes.files import describe, runtime_options
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchcode import (
    CODE_OPTIONS,
    LINES,
    Place,
    check_code,
    checked_inputs,
    cure,
    is_named,
    loaded,
    parameters,
)
from samovar.runtimes.torchmodel import TUNING, TorchModel, refuse_texts

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "torch")
ABOUT = About(
    "PyTorch modules",
    extra="torch",
    recognised_by="samovar.toml in a folder; header of safetensors; files of torch.save, with no code in them",
    signature_from="samovar.toml, with the names of forward",
    safety="the code of a folder is the user's own program; code beside a weights file, pickled modules: --trust",
)

_SETTINGS = "samovar.toml"
_SAFETENSORS = ".safetensors"
_WEIGHTS = (_SAFETENSORS, ".pt", ".pth", ".bin", ".ckpt")
_BEFORE_ZIP = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # what torch.save of 1.5 and before begins with, a pickled number
)
_OPTIONS = {**CODE_OPTIONS, **TUNING}


def recognise(path: Path) -> Sure:
    """Folders whose samovar.toml names this runtime, and files of weights."""
    if path.is_dir():
        return Sure.CERTAIN if is_named("pytorch", path, _WEIGHTS) else Sure.NO
    names = zip_names(path)
    start = peek(path, len(_BEFORE_ZIP))
    if ("data.pkl" in names and "constants.pkl" not in names) or start == _BEFORE_ZIP:
        return Sure.LIKELY
    if path.suffix.lower() == _SAFETENSORS:
        return Sure.LIKELY if start[8:9] == b"{" else Sure.NAME
    return Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a module. Raises TargetError, ConfigError, or UnsafeFormatError for code that is not trusted."""
    path = question.path
    declared = question.declared
    options = runtime_options(question, _OPTIONS)
    place = Place(path, options, ABOUT, _WEIGHTS)
    is_pickled = check_code(question, place)
    module = place.module(is_trusted=bool(question.declared.trust))
    if not declared.inputs or not declared.outputs:
        lines = LINES[1:] if options["module"] or is_pickled else LINES
        taken = ", ".join(parameters(module)) or "nothing"
        raise TargetError(
            f"{path.name} does not say its inputs and outputs; forward takes {taken}",
            cure(place, "pytorch", lines),
        )
    names = checked_inputs(path, module, declared)
    inputs = [FileTensor(name) for name in names]
    signature = signature_of(path.name, inputs, [FileTensor(one.name) for one in declared.outputs], declared)
    refuse_texts(path, signature)
    return [
        describe(
            question,
            "pytorch",
            signature,
            declared.options,
            IMPORTS,
            read_from=_SETTINGS,
            runtime_options=options,
            **({"trusted": True} if question.declared.trust else {}),
        )
    ]


def load(spec: dict[str, Any]) -> TorchModel:
    """Make a module with its weights. Raises TargetError, ConfigError or UnsafeFormatError."""
    return loaded(spec, ABOUT, _WEIGHTS, lambda place, is_trusted: place.module(is_trusted=is_trusted))
