"""Weights of torch: files of safetensors or torch.save, and modules that take them without a copy."""

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from samovar.errors import TargetError, UnsafeFormatError, text_of
from samovar.runtimes import About
from samovar.runtimes.contents import ZIP, foreign, peek, starts_as_pickle
from samovar.runtimes.files import imported

__all__ = ["built", "read_weights", "saved", "unsafe_globals"]

_AGAIN = "fetch the file again, or save model.state_dict() by torch.save"
_KEYS = ("state_dict", "model_state_dict", "model")  # under which training loops put the weights beside other things
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def read_weights(path: Path, about: About, *, is_trusted: bool) -> Any:
    """A state dict, whose tensors are mapped from the file; or a pickled module where that is trusted.

    Raises TargetError, or UnsafeFormatError.
    """
    torch = imported("torch", about)
    if path.suffix == ".safetensors":
        return _of_safetensors(path, about)
    found = saved(path, about, is_trusted=is_trusted)
    inner = [found.get(key) for key in _KEYS] if isinstance(found, Mapping) else []
    for one in (found, *inner):
        if isinstance(one, torch.nn.Module):
            return one
    state: Any = next(filter(_is_state, inner), found)
    if not _is_state(state):
        raise TargetError(f"{path.name} holds {type(found).__name__}, no weights", "save model.state_dict()")
    return _unwrapped(state)


def saved(path: Path, about: About, *, is_trusted: bool) -> Any:
    """What torch.save wrote. Raises TargetError, or UnsafeFormatError for what is no data and not trusted."""
    torch = imported("torch", about)
    wanted = unsafe_globals(path, about)
    if wanted and not is_trusted:
        raise UnsafeFormatError(
            f"unsafe_format: {path.name} is a pickle with {', '.join(wanted[:3])}, which is not trusted",
            "save model.state_dict()",
        )
    if wanted:
        _find_beside(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=not wanted, mmap=peek(path, 4) == ZIP)
    except (ImportError, AttributeError) as error:
        raise TargetError(
            f"{path.name} is a pickle of classes that are not here, {', '.join(wanted[:3])}: {text_of(error)}",
            "install their package, or put their file beside it; of one that a script or notebook (__main__) had, "
            "save model.state_dict()",
        ) from error
    except Exception as error:
        raise TargetError(f"{path.name} cannot be loaded: {text_of(error).splitlines()[0]}", _AGAIN) from error


def unsafe_globals(path: Path, about: About) -> list[str]:
    """What a file of torch.save would import beside plain data; looks without running it. Raises TargetError."""
    if path.suffix == ".safetensors":
        return []
    torch = imported("torch", about)
    fault = foreign(path)
    if fault is not None and "zip" not in fault.message and "pickle" not in fault.message:
        raise TargetError(f"{fault.message}, no weights of torch", fault.next_step)
    if not (start := peek(path)).startswith(ZIP) and not starts_as_pickle(start):
        raise TargetError(f"{path.name} is no file of torch.save", _AGAIN)
    try:
        if start.startswith(ZIP):
            return list(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        torch.load(path, map_location="meta", weights_only=True)  # of torch before 1.6, whose pickles list nothing
    except UnpicklingError:
        return ["more than tensors"]
    except Exception as error:
        raise TargetError(f"{path.name} is damaged: {text_of(error).splitlines()[0]}", _AGAIN) from error
    return []


def built(path: Path, make: Callable[[], Any], state: Mapping[str, Any]) -> Any:
    """A module with these weights, made without memory for others where its constructor can be run so.

    Raises TargetError for a constructor that raises, and for weights that do not fit.
    """
    import torch

    try:
        with torch.device("meta"):
            module = make()
        module.load_state_dict(state, assign=True)
        if not any(tensor.is_meta for tensor in _tensors(module)):
            return module
    except TargetError:
        raise
    except Exception:  # noqa: BLE001, S110 - some constructors compute with their weights; the next lines tell of the others
        pass
    try:
        module = make()
    except TargetError:
        raise
    except Exception as error:
        raise TargetError(
            f"the module of {path.name} cannot be made: {text_of(error)}", "give its arguments in runtime_options"
        ) from error
    try:
        module.load_state_dict(state, assign=True)
    except Exception as error:
        raise TargetError(
            f"the weights of {path.name} do not fit its module: {text_of(error)}",
            "name the class that they were saved from, and its arguments",
        ) from error
    return module


def _find_beside(path: Path) -> None:
    """Let a pickle find the classes of files beside it, as when it was written."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))


def _tensors(module: Any) -> Iterator[Any]:
    """Parameters, buffers, and what a constructor has kept beside them."""
    import torch

    kept = (value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor))
    return chain(module.parameters(), module.buffers(), kept)


def _of_safetensors(path: Path, about: About) -> Any:
    fault = foreign(path)
    if fault is not None:
        raise TargetError(f"{fault.message}, no safetensors", fault.next_step)
    torch_file = imported("safetensors.torch", about)
    try:
        return _unwrapped(torch_file.load_file(path))
    except Exception as error:
        raise TargetError(f"{path.name} is no whole file of safetensors: {text_of(error)}", "fetch it again") from error


def _is_state(value: Any) -> bool:
    import torch

    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, torch.Tensor) for one in value.values())


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state without the prefix that a wrapper has put before every name."""
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)
