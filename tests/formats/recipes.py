"""The recipes of docs/formats.md, played as they are printed, in the environment that has what they install."""

import re
import shlex
import sys
from pathlib import Path

from guides import ADDRESS, ROOT, typed
from serving import Serve

PAGE = ROOT / "docs" / "formats.md"
PLAYED = {
    "classic": (
        "ONNX",
        "Keras",
        "OpenVINO",
        "JAX",
        "scikit-learn",
        "XGBoost",
        "LightGBM",
        "CatBoost",
        "Forests by treelite",
        "MLflow",
        "Tables, by column name",
    ),
    "tf": ("TensorFlow SavedModel", "PaddlePaddle"),
    "torch": ("TorchScript", "PyTorch: torch.export", "fastai"),
}
UNPLAYED = {
    "Transformers": "a model of the hub",
    "Sentence Transformers": "a model of the hub",
    "Diffusers": "a model of the hub",
    "EasyOCR": "networks that are downloaded",
    "BentoML": "bentoml and a file",
    "GGUF": "a file, and llama-cpp-python",
    "TensorRT": "a GPU",
    "Images for a network of pixels": "a file and a photograph",
}
_SECTION = re.compile(r"^### (.+?)\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
_COMMANDS = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SERVED_BEFORE = {"Tables, by column name": "CatBoost"}


def recipes() -> dict[str, str]:
    """The first block of commands of each section that has one."""
    sections = _SECTION.findall(PAGE.read_text())
    return {title: found[1] for title, text in sections if (found := _COMMANDS.search(text))}


def check_recipe(title: str, serve: Serve, folder: Path) -> None:
    """Make the model, serve it, call it: each command ends well, and the last ones print answers."""
    found = recipes()
    whole = found[_SERVED_BEFORE[title]] + found[title] if title in _SERVED_BEFORE else found[title]
    script = re.sub(r"^pip install .*\n", "", whole, flags=re.MULTILINE)
    before, serving, calls = re.split(r"^(samovar serve .*)\n", script, flags=re.MULTILINE)
    typed(before, folder, timeout_s=120)
    target, *options = shlex.split(serving)[2:]
    served = serve(str(folder / target), options=options, timeout_s=120.0)
    assert calls.startswith("samovar infer ")
    address = f'samovar() {{ {sys.executable} -m samovar "$@" --engine {served.ready["admin"]}; }}\n'
    calls = calls.replace(ADDRESS, f"127.0.0.1:{served.port}")
    told = typed(address + calls, folder, timeout_s=120).stdout
    assert re.search(r"(FP32|FP64|INT64|BYTES) \[1", told), told
