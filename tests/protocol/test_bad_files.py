"""Files, folders and settings that are none: what the start says of each, and that a good model beside them serves."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import models
from serving import APPS, NotReadyError, Serve

X = {"x": np.ones((1, 3), np.float32)}


@dataclass(frozen=True)
class Bad:
    """What a file has, and what is said of it."""

    content: bytes | str
    words: tuple[str, ...]


def archive(**members: str) -> bytes:
    """A zip archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return packed.getvalue()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n"
FILES = {
    "empty.onnx": Bad("", ("is empty", "fetch")),
    "zip.onnx": Bad(archive(a="b"), ("zip archive", "no ONNX model")),
    "page.onnx": Bad("<!DOCTYPE html><html>", ("HTML page", "fetch the file again")),
    "pointer.onnx": Bad(POINTER, ("Git LFS", "git lfs pull")),
    "pickled.onnx": Bad(pickle.dumps({"a": 1}), ("pickle", "no ONNX model")),
    "noise.onnx": Bad(bytes(range(256)) * 4, ("is no ONNX model", "exporter")),
    "nothing.pt": Bad("", ("is empty", "no TorchScript")),
    "pickled_too.pt": Bad(pickle.dumps({"a": 1}), ("pickle", "torch.jit")),
    "weights.pt": Bad(archive(weights__data="x", weights__version="3"), ("TorchScript", "torch.jit")),
    "torn.pt": Bad(archive(a="b")[:30], ("damaged archive", "again")),
    "syntax.py": Bad("this is no Python", ("SyntaxError", "syntax.py, line 1")),
    "zero.py": Bad(b"a = 1\0", ("SyntaxError", "null bytes")),
    "raising.py": Bad("raise RuntimeError('at import')", ("RuntimeError: at import", "raising.py, line 1")),
    "leaving.py": Bad("import sys\nsys.exit(3)", ("leaving.py",)),
    "classless.py": Bad("x = 1", ("has no model", "@samovar.model")),
}
SETTINGS = {
    "unknown": Bad("max_batchsize = 3", ('"max_batchsize"', 'did you mean "max_batch_size"')),
    "text": Bad('max_batch_size = "3"', ("'3'", "whole number >= 1")),
    "negative": Bad("max_batch_size = -1", ("-1", "whole number >= 1")),
    "no_toml": Bad("max_batch_size = \n", ("is no TOML", "line 1", "correct that line")),
    "no_utf8": Bad(b"\xff\xfe", ("not UTF-8 at byte 0", "save it as UTF-8")),
    "other_input": Bad('inputs = [{ name = "y" }]', ('"y"', 'it has "x"')),
    "other_key": Bad('inputs = [{ nam = "x" }]', ('"nam"', 'did you mean "name"')),
}


def test_bad_files_stand_as_failed_beside_a_good_one(serve: Serve, tmp_path: Path) -> None:
    good = models.scale(tmp_path / "good.onnx")
    whole = good.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[:-20])
    wanted: dict[str, tuple[str, ...]] = {
        "cut": ("is cut off", "again"),
        "empty_folder": ("has no model file", "put a model file there"),
    }
    for name, bad in FILES.items():
        write(tmp_path / name, bad.content)
        wanted[Path(name).stem] = bad.words
    repository = tmp_path / "repository"
    for name, bad in SETTINGS.items():
        write(repository / name / "samovar.toml", bad.content)
        write(repository / name / "1" / "model.onnx", whole)
        wanted[name] = bad.words
    (repository / "empty_folder" / "1").mkdir(parents=True)
    served = serve(str(good), str(cut), *(str(tmp_path / name) for name in FILES), str(repository))
    for name, words in wanted.items():
        answer = served.http.infer(name, X)
        assert (answer.status, answer.code()) == (503, "model_failed")
        for word in words:
            assert word in answer.json()["error"], (name, word)
        assert "Traceback" not in answer.json()["error"]
        assert served.model(name)["state"] == "failed"
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/config"):  # not: a model without inputs
            assert served.http.get(path).code() == "model_failed"
    assert served.http.infer("good", X).arrays()["output"].tolist() == [[2, 2, 2]]
    assert served.stop() == 0
    assert len([line for line in served.log() if line["level"] == "ERROR"]) == len(wanted)


def write(path: Path, content: bytes | str) -> Path:
    """A file, and the folders on the way to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_start_with_nothing_but_bad_files_fails_and_says_why(serve: Serve, tmp_path: Path) -> None:
    torn = write(tmp_path / "torn.onnx", POINTER)
    with pytest.raises(NotReadyError) as refused:
        serve(str(torn))
    assert "exit code 1" in str(refused.value)
    (line,) = [line for line in str(refused.value).splitlines() if line.startswith("  ")]
    assert "git lfs pull" in line


def in_folder(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / "target" / name).mkdir(parents=True)
    return folder / "target"


def looping(folder: Path) -> Path:
    (in_folder(folder, "model") / "model" / "self").symlink_to("..")
    return folder / "target"


def dangling(folder: Path) -> Path:
    path = folder / "link.onnx"
    path.symlink_to("nowhere.onnx")
    return path


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.onnx")
    return folder / "pipe.onnx"


ECHO = str(APPS / "echo.py:EchoFp32")
TARGETS: dict[str, tuple[Callable[[Path], list[object]], tuple[str, ...]]] = {
    "none": (lambda _: [], ("TARGET", "--help")),
    "missing": (lambda folder: [folder / "missing.onnx"], ("missing.onnx", "does not exist")),
    "missing folder": (lambda folder: [folder / "a" / "b.onnx"], ("does not exist", "no folder")),
    "link to nothing": (lambda folder: [dangling(folder)], ("link.onnx", "does not exist", "nothing in")),
    "unknown format": (lambda folder: [write(folder / "net.pb", "x")], ("net.pb", "no format", ".onnx")),
    "empty folder": (lambda folder: [in_folder(folder, ".")], ("has no models", "NAME/1/model.onnx")),
    "hidden folders": (lambda folder: [in_folder(folder, ".git", "_old")], ("has no models", "NAME/1/model.onnx")),
    "loop of links": (lambda folder: [looping(folder)], ("has no models",)),
    "name with a space": (lambda folder: [models.scale(folder / "my net.onnx")], ("my net", "rename the file")),
    "name of 256": (lambda folder: [write(folder / ("n" * 240) / ("m" * 240) / "x.bin", "")], ("no format",)),
    "two of one name": (
        lambda folder: [models.scale(folder / "a" / "net.onnx"), models.scale(folder / "b" / "net.onnx")],
        ("a/net.onnx", "b/net.onnx", "rename"),
    ),
    "unknown option": (lambda _: [ECHO, "--htp-port", "1"], ("--htp-port", "--http-port")),
    "option of another kind": (lambda _: [ECHO, "--http-port", "x"], ("'x'", "whole number")),
    "option out of range": (lambda _: [ECHO, "--http-port", "70000"], ("70000", "<= 65535")),
    "unknown setting": (
        lambda folder: [ECHO, "--config", write(folder / "s.toml", "htp_port = 1")],
        ('"htp_port"', 'did you mean "http_port"'),
    ),
    "settings of no model": (
        lambda folder: [ECHO, "--config", write(folder / "s.toml", "[models.ech_fp32]")],
        ("models.ech_fp32", 'did you mean "echo_fp32"'),
    ),
    "unknown setting of a model": (
        lambda folder: [ECHO, "--config", write(folder / "s.toml", "[models.echo_fp32]\ninstance = 2")],
        ('"instance"', 'did you mean "instances"'),
    ),
    "settings that are no TOML": (
        lambda folder: [ECHO, "--config", write(folder / "s.toml", "{")],
        ("s.toml", "is no TOML", "line 1"),
    ),
    "missing settings": (lambda folder: [ECHO, "--config", folder / "none.toml"], ("none.toml", "does not exist")),
    "settings of another engine": (lambda folder: [ECHO, "--config", folder], ("is no file",)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_wrong_command_ends_at_once_with_its_cure(tmp_path: Path, name: str) -> None:
    words, wanted = TARGETS[name][0](tmp_path), TARGETS[name][1]
    ports = ["--grpc-port", "0"] + ([] if "--http-port" in words else ["--http-port", "0"])
    command = [sys.executable, "-m", "samovar", "serve", *map(str, words), *ports]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("samovar: ")
    for word in wanted:
        assert word.lower() in line.lower()
    assert len(line) < 700


def test_pipe_in_place_of_a_file_does_not_hold_up_the_start(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="exit code"):
        serve(str(fifo(tmp_path)))
