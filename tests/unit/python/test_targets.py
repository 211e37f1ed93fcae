"""What the command line may name."""

import os
from pathlib import Path

import pytest

from samovar.errors import TargetError
from samovar.repository.sources import Source, all_sources
from samovar.repository.targets import Target, file_identity, parse_target


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("app.py", "plates.py"):
        (tmp_path / name).touch()
    (tmp_path / "weights.bin").write_bytes(b"\xff" * 8)
    (tmp_path / "model.json.gz").write_bytes(b"\x1f\x8b")
    for name in ("models/stn/1", "models/lprnet", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "models/stn/1/model.py").touch()
    (tmp_path / "models/lprnet/model.py").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_and_a_class_of_it(folder: Path) -> None:
    assert parse_target("app.py") == Target(folder / "app.py")
    assert parse_target("./app.py:Stn") == Target(folder / "app.py", "Stn")


def test_a_colon_may_be_part_of_a_path(folder: Path) -> None:
    (folder / "a:b.py").touch()
    assert parse_target("a:b.py") == Target(folder / "a:b.py")
    assert parse_target("a:b.py:Stn") == Target(folder / "a:b.py", "Stn")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("models", "repository"),
        ("models/", "repository"),
        ("models/stn", "model"),
        ("models/stn/.", "model"),
        ("models/lprnet", "model"),
        ("models/stn/..", "repository"),
        ("empty", "repository"),
    ],
)
def test_a_folder_is_a_repository_or_one_model(folder: Path, text: str, kind: str) -> None:
    target = parse_target(text)
    assert target.kind == kind
    assert target.path.name in ("models", "stn", "lprnet", "empty")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ap.py", 'target "ap.py" does not exist; what can be served there: app.py'),
        ("ap.py:Stn", 'target "ap.py" does not exist; what can be served there: app.py'),
        ("modls", 'target "modls" does not exist; what can be served there: models'),
        ("zzz", 'target "zzz" does not exist; what can be served there: app.py, models, plates.py'),
        ("none/app.py", 'target "none/app.py" does not exist; there is no folder "none"'),
        ("empty/app.py", 'target "empty/app.py" does not exist; nothing in "{folder}/empty" can be served'),
        ("models:Stn", 'target "models:Stn" names a class of a folder; write models to serve its models'),
        (
            "weights.bin",
            (
                "weights.bin has no format that is served; "
                "give a Python file, a model file (.onnx, .pt, .skops ...) or a folder of a format in docs/formats.md; "
                'or name its format in samovar.toml beside it: runtime = "onnx"'
            ),
        ),
        (
            "model.json.gz",
            (
                "model.json.gz has no format that is served: it is compressed by gzip; "
                "unpack it with gunzip, or with tar -xzf"
            ),
        ),
        ("app.py:a b", 'target "app.py:a b" names the class "a b"; write file.py or file.py:Class'),
        ("", 'target "" names no file; name a model file, file.py:Class, or a folder'),
        (":Stn", 'target ":Stn" names no file; name a model file, file.py:Class, or a folder'),
        ("app.py:", 'target "app.py:" names the class ""; write file.py or file.py:Class'),
    ],
)
def test_what_cannot_be_a_target_is_told(folder: Path, text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(text)
    assert str(caught.value) == message.format(folder=folder)


def test_a_file_of_no_format_is_refused(folder: Path) -> None:
    with pytest.raises(TargetError, match=r"weights\.bin"):
        parse_target("weights.bin")


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("/a/net.onnx", ("net", "1")),
        ("/a/net.v2.onnx", ("net.v2", "1")),
        ("/a/stn/model.onnx", ("stn", "1")),
        ("/a/stn/3/model.onnx", ("stn", "3")),
        ("/a/stn/blue/model.pt", ("blue", "1")),
    ],
)
def test_a_file_that_names_no_model_is_named_by_its_path(path: str, identity: tuple[str, str]) -> None:
    assert file_identity(Path(path)) == identity


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target(Path("/a/plates.py")), "plates"),
        (Target(Path("/a/plates.py"), "LprNet"), "lpr_net"),
        (Target(Path("/a/v2.py")), "target_v2"),
        (Target(Path("/a/größe x.py")), "gr__e_x"),
        (Target(Path("/a/-x.py")), "target_-x"),
    ],
)
def test_a_target_without_description_has_a_name_that_fits(target: Target, name: str) -> None:
    assert Source(target, target.path, target.class_name).key == (name, "1")


def test_a_version_of_a_model_can_be_the_target(folder: Path) -> None:
    target = parse_target("models/stn/1")
    assert target == parse_target("models/stn/1/model.py") == Target(folder / "models/stn/1/model.py")
    assert [source.key for source in all_sources([target])] == [("stn", "1")]
    assert parse_target("models/stn/1/model.py:Stn").is_program


def test_a_pipe_is_no_target(folder: Path) -> None:
    os.mkfifo(folder / "pipe.py")
    with pytest.raises(TargetError, match=r'^target "pipe.py" is neither a file nor a folder'):
        parse_target("pipe.py")


def test_a_name_that_no_file_can_have_is_told(folder: Path) -> None:
    with pytest.raises(TargetError, match=r'^target "x{300}" cannot be looked at: File name too long$'):
        parse_target("x" * 300)
    with pytest.raises(TargetError, match="does not exist"):
        parse_target("app\0.py")


def test_a_model_in_the_cache_of_a_hub_is_its_snapshot(tmp_path: Path) -> None:
    cached = tmp_path / "models--owner--tiny-bert"
    snapshot = cached / "snapshots" / "0a1b2c"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}')
    (snapshot / "model.safetensors").touch()
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0a1b2c\n")
    for target in (cached, snapshot):
        assert parse_target(str(target)) == Target(snapshot)
    assert file_identity(snapshot) == ("tiny-bert", "1")
    (cached / "refs" / "main").write_text("gone")
    assert parse_target(str(cached)).kind == "repository"
