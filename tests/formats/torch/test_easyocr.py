"""EasyOCR: readers with a network of one's own, and with those of EasyOCR, beside the reader itself."""

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import easyocr
import numpy as np
import pytest
import torch
from easyocr.craft import CRAFT
from easyocr.model.vgg_model import Model
from PIL import Image, ImageDraw

from formats.compared import Arrays, same
from formats.torch.folders import check_images, inspect, load
from samovar.errors import ConfigError, InvalidInputError, TargetError, UnsafeFormatError
from serving import Serve

FORMAT = "easyocr"
CHARACTERS = "0123456789abcdef"
SIZES = {"input_channel": 1, "output_channel": 16, "hidden_size": 8}
SETTINGS = f"""
imgH: 64
lang_list: [en]
character_list: {CHARACTERS}
network_params: {{input_channel: 1, output_channel: 16, hidden_size: 8}}
"""
CODE = """
from pathlib import Path
from easyocr.model.vgg_model import Model

Path({note!r}).touch()
"""
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


def own_network(folder: Path) -> None:
    """A folder with the network `teanet`, whose code leaves a file beside the folder."""
    folder.mkdir()
    torch.manual_seed(8)
    weights = Model(num_class=len(CHARACTERS) + 1, **SIZES).state_dict()
    torch.save({f"module.{name}": value for name, value in weights.items()}, folder / "teanet.pth")
    (folder / "teanet.yaml").write_text(SETTINGS)
    (folder / "teanet.py").write_text(CODE.format(note=str(folder.parent / "run")))


def picture(text: str) -> np.ndarray:
    """A line of text as a PNG, an input of BYTES."""
    image = Image.new("RGB", (160, 48), "white")
    ImageDraw.Draw(image).text((10, 10), text, fill="black", font_size=24)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return np.array([buffer.getvalue()], object)


def as_arrays(found: list[Any]) -> Arrays:
    return {
        "texts": np.array([text for _, text, _ in found], object),
        "boxes": np.array([box for box, _, _ in found], np.float32).reshape(-1, 4, 2),
        "confidences": np.array([confidence for _, _, confidence in found], np.float32),
    }


def test_a_network_of_ones_own_reads_where_it_is_trusted(serve: Serve, tmp_path: Path) -> None:
    own_network(tmp_path / "reader")
    with pytest.raises(UnsafeFormatError, match=r"unsafe_format: .*teanet\.py.* --trust reader"):
        inspect(FORMAT, tmp_path / "reader")
    assert not (tmp_path / "run").exists()
    folder = str(tmp_path / "reader")
    reader = easyocr.Reader(
        ["en"],
        gpu=False,
        detector=False,
        recog_network="teanet",
        model_storage_directory=folder,
        user_network_directory=folder,
        download_enabled=False,
        verbose=False,
    )

    def expected(some: Arrays) -> Arrays:
        pixels = np.asarray(Image.open(io.BytesIO(some["image"][0])).convert("RGB"))
        return as_arrays(reader.recognize(pixels))

    image = picture("cafe 42")
    served = check_images(serve, tmp_path / "reader", image, expected, arguments=["--trust", "reader"], counts=(1,))
    assert served.http.infer_binary("reader", {"image": image}).arrays()["texts"].shape == (1,)


def test_networks_of_easyocr_are_known_by_their_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "standard"
    folder.mkdir()
    torch.manual_seed(9)
    known = easyocr.easyocr.recognition_models["gen2"]["english_g2"]
    characters = len(known["characters"]) + 1
    networks = {
        "craft_mlt_25k.pth": CRAFT(pretrained=False),
        "english_g2.pth": Model(num_class=characters, input_channel=1, output_channel=256, hidden_size=256),
    }
    for name, network in networks.items():
        torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, folder / name)
    with pytest.raises(TargetError, match="MD5 mismatch"):
        load(FORMAT, folder)
    craft = easyocr.easyocr.detection_models["craft"]
    for entry, name in ((craft, "craft_mlt_25k.pth"), (known, "english_g2.pth")):
        monkeypatch.setitem(entry, "md5sum", hashlib.md5((folder / name).read_bytes()).hexdigest())
    reader = easyocr.Reader(
        ["en"], gpu=False, model_storage_directory=str(folder), download_enabled=False, verbose=False
    )
    image = picture("warm tea")
    wanted = as_arrays(reader.readtext(image[0]))
    found = load(FORMAT, folder).predict([image])
    same(dict(zip(wanted, found, strict=True)), wanted, 1e-4)
    shutil.rmtree(folder)


def test_faults_are_told(tmp_path: Path) -> None:
    own_network(tmp_path / "reader")
    model = load(FORMAT, tmp_path / "reader", trust=True)
    with pytest.raises(InvalidInputError, match="no image"):
        model.predict([np.array([b"no picture"], object)])
    with pytest.raises(ConfigError, match="list of names"):
        inspect(FORMAT, tmp_path / "reader", trust=True, languages=[1])
    with pytest.raises(TargetError, match=r"Missing .* downloads disabled"):
        load(FORMAT, tmp_path / "reader", network="standard", detector="craft")
    (tmp_path / "reader" / "teanet.py").unlink()
    with pytest.raises(TargetError, match=r"no teanet\.py"):
        inspect(FORMAT, tmp_path / "reader", trust=True)


def test_a_letter_that_is_not_allowed_is_not_read(tmp_path: Path) -> None:
    own_network(tmp_path / "reader")
    image = picture("cafe 42")
    for allowlist in ("01", "ab"):
        (text,) = load(FORMAT, tmp_path / "reader", trust=True, allowlist=allowlist).predict([image])[0]
        assert set(text.decode()) <= set(allowlist)


def test_damaged_folders_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    own_network(tmp_path / "reader")
    weights = tmp_path / "reader" / "teanet.pth"
    weights.write_bytes(weights.read_bytes()[:1000])
    served = serve(str(tmp_path / "reader"), "echo.py:EchoFp32", options=["--trust", "reader"], timeout_s=120.0)
    assert served.http.get("/v2/models/echo_fp32/ready").status == 200
    (told,) = served.errors(1)
    assert "reader" in str(told)
