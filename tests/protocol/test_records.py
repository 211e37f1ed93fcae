"""Rows by column name: in JSON, from the command line, and as tables by the client."""

import json
from typing import Any

import numpy as np
import pytest

from commands import run
from http_door import Http
from samovar.client import Client
from samovar.errors import InputError
from serving import Served

ROWS = [{"city": "oslo", "age": 41}, {"age": 0.5, "city": None}, {"city": "", "age": None}]
LINES = ["oslo: 41", ": 0.5", ": nan"]


def ask(http: Http, body: Any, model: str = "people") -> Any:
    return http.request("POST", f"/v2/models/{model}/infer", json.dumps(body).encode())


def test_records_are_rows(shared: Served) -> None:
    answer = ask(shared.http, {"id": "a", "records": ROWS, "outputs": [{"name": "output"}]})
    assert answer.status == 200, answer.body
    assert answer.json()["id"] == "a"
    assert answer.json()["outputs"] == [{"name": "output", "datatype": "BYTES", "shape": [3], "data": LINES}]
    binary = ask(shared.http, {"records": ROWS, "parameters": {"binary_data_output": True}})
    assert [line.decode() for line in binary.arrays()["output"]] == LINES


def test_many_records_are_read_aside(shared: Served) -> None:
    rows = [{"city": f"city {number}", "age": number} for number in range(20)]
    body = {"unread": " " * 500_000, "records": rows}  # in several pieces, of which texts may lie across two
    assert ask(shared.http, body).json()["outputs"][0]["data"] == [f"city {n}: {n}" for n in range(20)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"records": [{"city": "a"}]}, 'record 0: column "age" is missing'),
        ({"records": [{"city": "a", "age": "b"}]}, 'record 0: column "age": '),
        ({"records": [{"city": "a", "ages": 1}]}, 'no column "ages"; the model has "city", "age"'),
        ({"records": [{"city": 1, "age": 1}]}, 'record 0: column "city": '),
        ({"records": {"city": "a", "age": 1}}, "want `[`"),
        ({"records": ROWS, "inputs": []}, "both `inputs` and `records`"),
        ({}, "no `inputs`"),
    ],
)
def test_bad_records_are_refused(shared: Served, body: Any, words: str) -> None:
    answer = ask(shared.http, body)
    assert (answer.status, answer.code()) == (400, "invalid_request")
    assert words in answer.json()["error"]


def test_other_models_take_no_records(shared: Served) -> None:
    answer = ask(shared.http, {"records": ROWS}, "sum")
    assert (answer.status, answer.code()) == (400, "invalid_request")
    assert "send `inputs`" in answer.json()["error"]
    assert ask(shared.http, {"records": ROWS}, "nobody").status == 404


def test_the_client_takes_records(shared: Served) -> None:
    with Client(f"http://127.0.0.1:{shared.port}") as client:
        assert [line.decode() for line in client.infer("people", ROWS)["output"]] == LINES
        for bad, words in [
            ([{"city": "a"}], 'no column "age"'),
            ([{"city": "a", "age": 1}, {"city": "b"}], 'record 1 has no "age"'),
            ([{"city": "a", "age": 1, "id": 7}], 'has no column "id"'),
            ([{"city": "a", "age": "b"}], 'column "age" has values of text and the model takes FP64; convert'),
            (np.zeros(3), "ndarray"),
        ]:
            with pytest.raises(InputError, match=words):
                client.infer("people", bad)
        with pytest.raises(InputError, match="takes no table"):
            client.infer("sum", ROWS)


def test_the_command_line_takes_records(shared: Served, tmp_path: Any) -> None:
    url = ("--url", f"http://127.0.0.1:{shared.port}")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS[:2]))
    ran = run("infer", "people", *url, "--records", f"@{tmp_path}/rows.json", "--json")
    assert json.loads(ran.out)["outputs"][0]["data"] == LINES[:2]
    ran = run("infer", "people", *url, "--records", json.dumps(ROWS[0]), "--json")
    assert json.loads(ran.out)["outputs"][0]["data"] == LINES[:1]
    for words, told in [
        (("--records", "[1]"), "no list of objects"),
        (("--records", "{"), "no JSON"),
        (("--records", "@nothing.json"), "cannot be read"),
        (("--records", "[]", "--input", "city=1"), "both given"),
    ]:
        ran = run("infer", "people", *url, *words)
        assert ran.code == 2
        assert told in ran.err


def test_no_records_are_no_rows(shared: Served) -> None:
    assert ask(shared.http, {"records": []}).json()["outputs"][0]["shape"] == [0]
