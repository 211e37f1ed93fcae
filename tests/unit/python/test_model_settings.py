"""What samovar.toml says of one model, and which one is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from samovar.config import Configuration, configure
from samovar.config.declared import Declared
from samovar.errors import ConfigError
from samovar.repository.settings import notes, options_of, question_of
from samovar.repository.sources import Source
from samovar.repository.targets import Target
from samovar.runtimes import Question

DECLARED = 'batch_axis = true\ninputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3] }]\n'


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder with the file net.pt, which lies beside no engine."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "net.pt").touch()
    return folder


def of_file(folder: Path) -> Source:
    return Source(Target(folder / "net.pt"), folder / "net.pt", name="net", version="1")


def of_folder(folder: Path) -> Source:
    target = Target(folder.parent, kind="repository")
    return Source(target, folder / "1" / "model.pt", name=folder.name, version="1", folder=folder)


def engine(folder: Path, text: str) -> Configuration:
    (folder / "samovar.toml").write_text(text)
    return configure({}, {}, folder=folder)


def declared(source: Source, configuration: Configuration) -> Declared:
    return question_of(source, configuration).declared


@pytest.mark.parametrize("text", [f"instances = 2\n{DECLARED}", f"[models.net]\ninstances = 2\n{DECLARED}"])
def test_the_file_beside_a_file_has_its_keys_or_its_table(tmp_path: Path, beside: Path, text: str) -> None:
    (beside / "samovar.toml").write_text(text)
    found = declared(of_file(beside), engine(tmp_path, ""))
    assert found.options == {"instances": 2}
    assert found.batch_axis
    assert found.inputs is not None
    assert found.inputs[0].shape == ("batch", 3)


def test_the_file_of_a_model_folder_has_the_keys_of_that_model(tmp_path: Path, beside: Path) -> None:
    (beside / "samovar.toml").write_text("instances = 2")
    assert declared(of_folder(beside), engine(tmp_path, "")).options == {"instances": 2}


def test_the_file_of_the_engine_stands_above_it(tmp_path: Path, beside: Path) -> None:
    (beside / "samovar.toml").write_text("instances = 2\nmax_batch_size = 4\nbatch_axis = true")
    own = engine(tmp_path, "[models.net]\ninstances = 3\nbatch_axis = false")
    assert declared(of_file(beside), own) == Declared({"instances": 3, "max_batch_size": 4}, batch_axis=False)


def test_the_file_of_the_engine_is_read_once_and_as_its_own(beside: Path) -> None:
    own = engine(beside, "http_port = 0\n[models.net]\ninstances = 3")
    assert declared(of_file(beside), own) == Declared({"instances": 3})
    assert notes(of_file(beside), own) == []


def test_a_file_for_another_start_is_not_read_and_that_is_told(tmp_path: Path, beside: Path) -> None:
    (beside / "samovar.toml").write_text("http_port = 9000\n[models.net]\ninstances = 3")
    own = engine(tmp_path, "")
    assert declared(of_file(beside), own) == Declared()
    (note,) = notes(of_file(beside), own)
    assert note.startswith(f"{beside}/samovar.toml has settings of an engine and is not read; name it with --config")


def test_the_file_inside_a_model_that_is_a_folder_stands_below(tmp_path: Path, beside: Path) -> None:
    (beside / "saved").mkdir()
    (beside / "saved" / "samovar.toml").write_text('instances = 2\nmax_batch_size = 4\nruntime = "onnx"\ntrust = true')
    (beside / "samovar.toml").write_text("[models.saved]\nmax_batch_size = 8")
    source = Source(Target(beside / "saved"), beside / "saved", name="saved", version="1")
    wanted = Declared({"instances": 2, "max_batch_size": 8}, runtime="onnx")  # whom to trust is not for it to say
    assert declared(source, engine(tmp_path, "")) == wanted
    in_repository = Source(
        Target(tmp_path, kind="repository"), beside / "saved", name="files", version="1", folder=beside
    )
    (beside / "samovar.toml").write_text("max_batch_size = 8")
    assert declared(in_repository, engine(tmp_path, "")) == wanted


def test_in_the_folder_of_a_model_its_file_is_not_the_engines(beside: Path) -> None:
    own = engine(beside, "instances = 2")
    assert own.file is None
    assert declared(of_file(beside), own).options == {"instances": 2}
    program = Source(Target(beside / "app.py"), beside / "app.py")
    (note,) = notes(program, own)
    assert note.endswith("and not read; what it says of a program belongs below [models.NAME]")


def test_it_is_read_at_every_load(tmp_path: Path, beside: Path) -> None:
    own = engine(tmp_path, "")
    for count in (2, 3):
        (beside / "samovar.toml").write_text(f"instances = {count}")
        assert declared(of_file(beside), own).options == {"instances": count}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("instance = 2", 'unknown setting "instance" in {file}; did you mean "instances"?'),
        (
            "[models.net]\ninstance = 2",
            'unknown setting "instance" of [models.net] in {file}; did you mean "instances"?',
        ),
        (
            "instances = 1\n[models.net]",
            'setting "instances" in {file} stands beside [models]; move it into the table of its model',
        ),
        ("models = 3", '"models" in {file} is no table; write [models.net] and its keys below'),
        ("[models]\nnet = 3", '"models" in {file} is no table; write [models.net] and its keys below'),
        ("= 3", 'configuration file "{file}" is no TOML: Invalid statement (at line 1, column 1); correct that line'),
        ("instances = true", 'setting "instances" in {file} is True; it wants a whole number >= 1 and <= 1024'),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, beside: Path, text: str, message: str) -> None:
    file = beside / "samovar.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        question_of(of_file(beside), engine(tmp_path, ""))
    assert str(caught.value) == message.format(file=file)


def test_a_model_folder_has_no_tables_of_models(tmp_path: Path, beside: Path) -> None:
    (beside / "samovar.toml").write_text("[models.files]\ninstances = 2")
    with pytest.raises(ConfigError, match=r"names models; write the keys of this one at the top of that file$"):
        question_of(of_folder(beside), engine(tmp_path, ""))


def test_a_program_is_asked_without_names_and_says_what_a_table_may_not(tmp_path: Path, beside: Path) -> None:
    source = Source(Target(beside / "app.py"), beside / "app.py")
    own = engine(tmp_path, "[models.one]\ninstances = 2\n[models.two]\nthreads = 2\n[models.three]\nbatch_axis = true")
    assert question_of(source, own) == Question(beside / "app.py")
    model: dict[str, Any] = {"name": "one", "options": {}, "batch_axis": False, "service": None, "streams": False}
    model["source"] = {"path": str(beside / "app.py"), "class": "One"}
    assert options_of(source, model, own)["instances"] == 2
    assert options_of(source, {**model, "name": "two"}, own)["threads"] == 2
    with pytest.raises(ConfigError, match=r'^\[models.three\] sets "batch_axis", but the model is a Python class'):
        options_of(source, {**model, "name": "three"}, own)


def test_a_question_passes_through_json(tmp_path: Path, beside: Path) -> None:
    (beside / "samovar.toml").write_text(DECLARED)
    question = question_of(of_file(beside), engine(tmp_path, ""))
    assert Question.from_json(json.loads(json.dumps(question.to_json()))) == question
