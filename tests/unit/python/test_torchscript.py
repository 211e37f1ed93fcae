"""What is told of files with a suffix of torch where torch itself is not needed, or not there."""

import pickle
import sys
import zipfile
from pathlib import Path

import pytest

from samovar.errors import TargetError
from samovar.runtimes import Question, runtime_for
from samovar.runtimes.torchscript import inspect

CONVERT = "save torch.jit.script(model) or torch.jit.trace(model, example), or write a Python class that loads it"


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(f"net/{name}", "")
    return path


def told(path: Path) -> str:
    with pytest.raises(TargetError) as caught:
        inspect(Question(path))
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ts"])
def test_files_are_recognised_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    path = archive(tmp_path / f"net{suffix}", "constants.pkl", "code/net.py")
    assert runtime_for(path).recognise(path)


def test_without_torch_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    message = told(archive(tmp_path / "net.pt", "constants.pkl", "code/net.py"))
    assert message.startswith("TorchScript models need torch, which cannot be imported: ")
    assert message.endswith("; run: pip install 'samovar[torch]'")


def test_archives_without_code_are_told_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    weights = told(archive(path, "data.pkl", "data/0", "version"))
    assert weights == f"net.pt holds weights or a pickled module (torch.save), no TorchScript; {CONVERT}"
    exported = told(archive(path, "archive_format", "models/model.json"))
    assert exported == f"net.pt is a program of torch.export, no TorchScript; export it to ONNX; or {CONVERT}"
    assert told(archive(path, "a")) == f"net.pt is a zip archive without TorchScript code; {CONVERT}"


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    assert (
        told(tmp_path / "net.pt")
        == f"{tmp_path}/net.pt cannot be read: No such file or directory; look at its place and permissions"
    )


def test_other_contents_are_told_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(pickle.dumps({"weights": [0.0] * 9}))
    assert told(path) == f"net.pt is a Python pickle, no TorchScript archive; {CONVERT}"
    path.write_bytes(b"")
    assert told(path) == "net.pt is empty, no TorchScript archive; fetch the file again"
    path.write_bytes(archive(path, "constants.pkl", "code/net.py").read_bytes()[:40])
    assert told(path).startswith("net.pt is a damaged archive: ")
