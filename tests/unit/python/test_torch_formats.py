"""How files of torch are told apart, and what is told of them, where torch is not there."""

import json
import sys
import zipfile
from pathlib import Path

import pytest

from samovar.config.declared import read_declared
from samovar.errors import TargetError
from samovar.runtimes import Question, describe, runtime_for

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)


def archive(path: Path, **contents: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(f"net/{name.replace('__', '/').replace('_pkl', '.pkl').replace('_json', '.json')}", content)
    return path


def files(folder: Path) -> dict[str, Path]:
    (folder / "net").mkdir()
    (folder / "net" / "net.py").touch()
    (folder / "net" / "samovar.toml").write_text('runtime = "pytorch"\n')
    (folder / "net" / "net.safetensors").write_bytes(SAFETENSORS)
    return {
        "torch.export programs": archive(folder / "a.pt", archive_format=b"pt2", models__model_json=b"{}"),
        "PyTorch modules": archive(folder / "b.pt", data_pkl=b"\x80\x02}."),
        "Lightning checkpoints": archive(
            folder / "c.pt", data_pkl=b"\x80\x02}X\x19\x00\x00\x00pytorch-lightning_version"
        ),
        "fastai learners": archive(folder / "d.pkl", data_pkl=b"\x80\x02cfastai.learner\nLearner\n"),
    }


def test_archives_are_told_apart_by_their_content(tmp_path: Path) -> None:
    for title, path in files(tmp_path).items():
        assert runtime_for(path).ABOUT.title == title
    assert runtime_for(tmp_path / "net").ABOUT.title == "PyTorch modules"
    assert runtime_for(tmp_path / "net" / "net.safetensors").ABOUT.title == "PyTorch modules"


def test_a_folder_whose_settings_are_for_its_versions_is_no_model_itself(tmp_path: Path) -> None:
    files(tmp_path)
    for name in ("net.py", "net.safetensors"):
        (tmp_path / "net" / name).unlink()
    with pytest.raises(TargetError, match="net has no format that is served"):
        runtime_for(tmp_path / "net")


def test_without_its_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch", "fastai", "lightning"):
        monkeypatch.setitem(sys.modules, module, None)
    extras = {"torch.export programs": "torch", "PyTorch modules": "torch", "Lightning checkpoints": "lightning"}
    trusting = read_declared({"trust": True}, "of the test")
    for title, path in files(tmp_path).items():
        extra = extras.get(title, "fastai")
        with pytest.raises(TargetError, match=rf"^{title} need .*; run: pip install 'samovar\[{extra}\]'$"):
            describe(Question(path, declared=trusting))
    with pytest.raises(TargetError, match=r"^PyTorch modules need torch"):
        describe(Question(tmp_path / "net" / "net.safetensors"))


def test_other_contents_are_told_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"")
    with pytest.raises(TargetError, match=r"^net\.pt2 is empty, no program of torch\.export; fetch the file again$"):
        describe(Question(path))
    path.write_bytes(archive(path, archive_format=b"pt2").read_bytes()[:50])
    with pytest.raises(TargetError, match=r"^net\.pt2 is a damaged archive; fetch the file again"):
        describe(Question(path))
    archive(path, a=b"")
    with pytest.raises(TargetError, match=r"^net\.pt2 is a zip archive without a program of torch\.export"):
        describe(Question(path))
