"""Arrays of an answer, printed and written."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from commands import run
from samovar.cli.output import columns, show, text
from samovar.cli.outputs import as_json_value, print_outputs, write_output
from samovar.errors import InputError

PORTS = (
    "samovar: no such option: --http-prt; did you mean --grpc-port, --http-port? `samovar serve --help` tells more\n"
)


def test_on_a_narrow_terminal_the_last_column_gives() -> None:
    written = io.StringIO()
    table = columns(("name", "state", "cause"), [("classifier", "failed", "word " * 20)], last_gives=True)
    Console(file=written, width=40).print(table)
    assert [line.split() for line in written.getvalue().splitlines()] == [
        ["name", "state", "cause"],
        ["classifier", "failed", "word", "word", "word", "word…"],
    ]


def test_arrays_are_printed_with_datatype_and_shape(capsys: pytest.CaptureFixture[str]) -> None:
    print_outputs({"x": np.array([[1, 2.5]], np.float32), "t": np.array([b"a", b"\xff"], object)})
    assert capsys.readouterr().out == "x  FP32 [1,2]\n[[1. , 2.5]]\nt  BYTES [2]\n['a', '\\\\xff']\n"


def test_a_long_array_is_cut_in_the_middle(capsys: pytest.CaptureFixture[str]) -> None:
    print_outputs({"x": np.arange(1_000)})
    assert "[  0,   1,   2, ..., 997, 998, 999]" in capsys.readouterr().out


def test_json_has_null_where_json_has_no_number() -> None:
    value = as_json_value("x", np.array([[1.5, np.nan], [np.inf, 2]], np.float64))
    assert value == {"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [[1.5, None], [None, 2.0]]}


def test_outputs_are_written_to_files(tmp_path: Path) -> None:
    write_output("x", np.eye(2), tmp_path / "x.npy")
    write_output("t", np.array([b"a", b"bc"], object), tmp_path / "t.npy")
    write_output("x", np.eye(2), tmp_path / "x.json")
    write_output("t", np.array([b"\xff"], object), tmp_path / "photo.png")
    assert np.load(tmp_path / "x.npy").tolist() == json.loads((tmp_path / "x.json").read_text()) == [[1, 0], [0, 1]]
    assert np.load(tmp_path / "t.npy").tolist() == [b"a", b"bc"]
    assert (tmp_path / "photo.png").read_bytes() == b"\xff"


@pytest.mark.parametrize(
    ("array", "file", "message"),
    [
        (np.eye(2), "x.txt", "name a .npy or .json file"),
        (np.eye(2), "none/x.npy", "No such file or directory"),
        (np.array([b"a\0"], object), "t.npy", "ends in a NUL"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path: Path, array: np.ndarray, file: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_output("x", array, tmp_path / file)


def test_a_pipe_gets_whole_names_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 255
    show(columns(("name", "state"), [(name, text("ready", "green")), ("[b]m", "\x1b[31mred")]))
    assert capsys.readouterr().out == f"name{' ' * 253}state\n{name}  ready\n[b]m{' ' * 253}\\x1b[31mred\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("modles",), "samovar: no such command 'modles'; did you mean 'models'? `samovar --help` tells more\n"),
        (
            ("models", "lst"),
            "samovar: no such command 'lst'; did you mean 'list'? `samovar models --help` tells more\n",
        ),
        (("serve", "--http-prt", "1", "x"), PORTS),
        (
            ("serve", "x", "--max-batch-size=2"),
            "samovar: --max-batch-size is of models: write max_batch_size below [models.<name>] in samovar.toml\n",
        ),
        (("infer",), "samovar: missing argument 'MODEL'; `samovar infer --help` tells more\n"),
    ],
)
def test_a_misspelt_command_is_told_in_one_line(words: tuple[str, ...], message: str) -> None:
    ran = run(*words)
    assert (ran.code, ran.out, ran.err) == (2, "", message)


def test_alone_it_shows_its_help_and_the_exit_codes() -> None:
    for words in ((), ("--help",)):
        ran = run(*words)
        assert ran.code == 0
        assert all(word in ran.out for word in ("serve", "infer", "inspect", "models", "version", "Exit codes: 0"))
    assert "list" in run("models").out


def test_version_is_for_people_and_for_scripts() -> None:
    assert run("--version").out == run("version").out
    assert json.loads(run("version", "--json").out)["version"] in run("version").out
