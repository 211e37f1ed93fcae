"""Runtime of Detectron2 folders: a configuration and the weights of the model that it describes.

What is done to an image is what DefaultPredictor does:
https://detectron2.readthedocs.io/en/latest/modules/engine.html#detectron2.engine.defaults.DefaultPredictor
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import peek
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.packages import first_level
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchmodel import DEVICE, device_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "torch", "detectron2")
ABOUT = About(
    "Detectron2 models",
    extra=None,
    recognised_by="folder with model_final.pth and config.yaml that has MODEL",
    signature_from="config.yaml: an image in; boxes, scores, classes, and masks or keypoints out",
    safety="safe: weights alone are read, and a configuration without objects of Python",
    tested="against the API alone: it is in no package index",
    install="build it from its source: no package index has it",
)

_CONFIG, _WEIGHTS = "config.yaml", "model_final.pth"
_SOURCE = "install it from its source: https://github.com/facebookresearch/detectron2"
_BASE = "_BASE_"


def recognise(path: Path) -> Sure:
    """Folders as the training loop of Detectron2 leaves them."""
    has_both = (path / _WEIGHTS).is_file() and "MODEL" in first_level(path / _CONFIG)
    return Sure.CERTAIN if has_both else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a folder. Raises TargetError or ConfigError."""
    folder = question.path
    options = runtime_options(question, DEVICE)
    config = _config(folder)
    _weights(folder)
    outputs = [FileTensor(name, datatype, shape) for name, datatype, shape, _ in _fields(config)]
    inputs = [FileTensor("image", Datatype.UINT8, (-1, -1, 3))]
    signature = signature_of(folder.name, inputs, outputs, question.declared)
    architecture = config.MODEL.META_ARCHITECTURE
    return [
        describe(
            question,
            "detectron2",
            signature,
            question.declared.options,
            IMPORTS,
            read_from=f"{_CONFIG}: {architecture}; the image is RGB, of any size",
            runtime_options=options,
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Build a model, and put its weights into it. Raises TargetError or ConfigError."""
    folder = Path(spec["source"]["path"])
    check_options(folder, spec["options"])
    config, weights = _config(folder), _weights(folder)
    torch = imported("torch", ABOUT)
    torch.set_num_threads(spec["options"]["threads"])
    config.MODEL.DEVICE = str(device_of(folder, spec["source"]["runtime_options"]))
    try:
        model = _detectron("detectron2.modeling").build_model(config)
        missing = list(model.load_state_dict(weights, strict=False).missing_keys)
    except Exception as error:
        raise TargetError(
            f"{_WEIGHTS} of {folder.name} does not fit {_CONFIG}: {text_of(error)}", "give those of one training"
        ) from error
    if missing:
        raise TargetError(
            f"{_WEIGHTS} of {folder.name} has no {', '.join(missing[:3])}", "give the weights of this configuration"
        )
    return FileModel(Signature.from_json(spec), _run(model.eval(), config))


def _detectron(module: str) -> Any:
    try:
        return imported(module, ABOUT)
    except TargetError as error:
        raise TargetError(error.message, _SOURCE) from None


def _config(folder: Path) -> Any:
    """The configuration; one on another file or server, which it could fetch, is refused."""
    path = folder / _CONFIG
    config = _detectron("detectron2.config").get_cfg()
    yaml = _detectron("yaml")
    try:
        is_based = _BASE in yaml.safe_load(path.read_bytes())
        if not is_based:
            config.merge_from_file(str(path), allow_unsafe=False)  # else YAML could call any function
    except Exception as error:
        raise TargetError(
            f"{_CONFIG} of {folder.name} cannot be read: {text_of(error).partition(chr(10))[0]}",
            "write it with cfg.dump()",
        ) from error
    if is_based:
        raise TargetError(
            f"{_CONFIG} of {folder.name} builds upon another file ({_BASE})",
            f"write the whole: Path('{_CONFIG}').write_text(cfg.dump())",
        )
    config.MODEL.DEVICE = "cpu"
    config.MODEL.WEIGHTS = ""  # the weights are those beside it, wherever they were for the training
    return config


def _weights(folder: Path) -> Any:
    """Tensors by name, mapped from the file; nothing else of Python is read from it."""
    path = folder / _WEIGHTS
    torch = imported("torch", ABOUT)
    is_zip = peek(path, 2) == b"PK"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:
        reason = text_of(error).partition("\n")[0]
        raise TargetError(
            f"{_WEIGHTS} of {folder.name} cannot be read: {reason}", "save the weights again: torch.save"
        ) from error
    weights = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise TargetError(
            f"{_WEIGHTS} of {folder.name} holds no weights", "save them with DetectionCheckpointer(model).save(...)"
        )
    return weights


def _fields(config: Any) -> list[tuple[str, Datatype, tuple[int, ...], Callable[[Any], Any]]]:
    """Name, datatype and shape of each output, and where it is in the instances of an image."""
    fields: list[tuple[str, Datatype, tuple[int, ...], Callable[[Any], Any]]] = [
        ("boxes", Datatype.FP32, (-1, 4), lambda found: found.pred_boxes.tensor),
        ("scores", Datatype.FP32, (-1,), lambda found: found.scores),
        ("classes", Datatype.INT64, (-1,), lambda found: found.pred_classes),
    ]
    if config.MODEL.MASK_ON:
        fields.append(("masks", Datatype.BOOL, (-1, -1, -1), lambda found: found.pred_masks))
    if config.MODEL.KEYPOINT_ON:
        fields.append(("keypoints", Datatype.FP32, (-1, -1, 3), lambda found: found.pred_keypoints))
    return fields


def _run(model: Any, config: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    import numpy as np
    import torch

    transforms = _detectron("detectron2.data.transforms")
    least, most = config.INPUT.MIN_SIZE_TEST, config.INPUT.MAX_SIZE_TEST
    resize = transforms.ResizeShortestEdge([least, least], most)
    is_bgr = config.INPUT.FORMAT == "BGR"
    fields = _fields(config)

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        image = inputs["image"][:, :, ::-1] if is_bgr else inputs["image"]
        height, width = image.shape[:2]
        resized = resize.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(np.ascontiguousarray(resized.astype("float32").transpose(2, 0, 1)))
        with torch.inference_mode():
            (answer,) = model([{"image": tensor, "height": height, "width": width}])
        found = answer["instances"].to("cpu")
        return {name: take(found).numpy() for name, _, _, take in fields}

    return run
