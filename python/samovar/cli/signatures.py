"""A model's inputs and outputs as people read them, from a description or from the protocol's metadata."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samovar.cli.output import columns
from samovar.config import ModelConfig

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["batching", "is_described", "is_service", "preprocess_text", "shape_text", "signature", "uses_text"]

_UNKNOWN = "unknown"
_PREPARATION = ("resize", "resample", "crop", "channels", "scale", "mean", "std", "layout")  # in the order of the steps


def is_described(model: Mapping[str, Any]) -> bool:
    """False for what failed before anything was known of it."""
    return is_service(model) or bool(model.get("inputs") or model.get("outputs"))


def is_service(model: Mapping[str, Any]) -> bool:
    """True for a service, which has no tensors of its own."""
    return model.get("runtime") == "service"


def signature(model: Mapping[str, Any]) -> "RenderableType":
    """A table of the tensors in `inputs` and `outputs`."""
    rows = []
    for kind in ("inputs", "outputs"):
        for number, tensor in enumerate(model[kind]):
            datatype = (tensor["datatype"] or _UNKNOWN).replace("UNKNOWN", _UNKNOWN)
            rows.append(
                ("" if number else kind, tensor["name"], datatype, shape_text(tensor, model.get("batch_axis", False)))
            )
    return columns(("", "name", "datatype", "shape"), rows)


def shape_text(tensor: Mapping[str, Any], batch_axis: bool = False) -> str:
    """`[batch,3,24,94]`; -1 is any length."""
    if "shape" in tensor:  # the protocol's metadata, where the batch axis is one of any length
        return _UNKNOWN if tensor["datatype"] == "UNKNOWN" else _list(tensor["shape"])
    if tensor["dims"] is None:
        return _UNKNOWN
    return _list(["batch"] * batch_axis + tensor["dims"])


def batching(options: Mapping[str, Any], batch_axis: bool) -> str:
    """How many rows run together."""
    if not batch_axis:
        return "no batch axis"
    rows = ModelConfig(max_batch_size=options.get("max_batch_size")).to_engine(batch_axis=batch_axis)["max_batch_size"]
    return f"batches of up to {rows}" if rows > 1 else "one row at a time"


def preprocess_text(settings: Mapping[str, Any]) -> str:
    """What happens to images before the model: `resize 256, ..., into pixel_values FP32 [3,224,224]`."""
    pixels = settings["input"]
    said = [f"{key} {_short(settings[key])}" for key in _PREPARATION if settings[key] is not None]
    return f"{', '.join(said)}, into {pixels['name']} {pixels['datatype']} {_list(pixels['dims'])}"


def uses_text(source: Mapping[str, Any]) -> str:
    """What a version calls: `stn, lprnet.onnx`; before it is loaded the place of a model, then its name."""
    places = [
        use.get("model") or use["name"] or f"{use['path']}{':' + use['class'] if use['class'] else ''}"
        for use in source.get("uses", {}).values()
    ]
    return ", ".join(dict.fromkeys(places))


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_short, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _list(dims: list[Any]) -> str:
    return f"[{','.join(map(str, dims))}]"
