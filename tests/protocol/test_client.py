"""The client against a real engine, over TCP and over a Unix socket."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samovar
from samovar.client import Client
from samovar.errors import RequestError
from serving import APPS, Served


@pytest.mark.parametrize(
    ("model", "value"),
    [
        ("echo_fp32", np.array([[1.5, np.nan]], "f4")),
        ("echo_bool", np.array([[True, False]])),
        ("echo_bytes", np.array([[b"a", b"\xff"]], object)),
    ],
)
def test_arrays_come_back_as_they_were(shared: Served, model: str, value: Any) -> None:
    with Client(f"http://127.0.0.1:{shared.port}") as client:
        back = client.infer(model, {"x": value}, version="1", outputs=["output"])["output"]
        np.testing.assert_array_equal(client.infer(model, {"x": value})["output"], value)
    assert back.dtype == value.dtype
    np.testing.assert_array_equal(back, value)


def test_metadata_index_and_refusals(shared: Served) -> None:
    with Client(f"http://127.0.0.1:{shared.port}") as client:
        client.check_ready()
        client.check_ready("echo_fp32", "1")
        assert client.server()["name"] == "samovar"
        assert [tensor["name"] for tensor in client.metadata("echo_fp32")["inputs"]] == ["x"]
        assert {"name": "echo_fp32", "version": "1", "state": "READY", "reason": ""} in client.index()
        with pytest.raises(RequestError, match="nobody") as caught:
            client.infer("nobody", {"x": np.zeros(1)})
        assert (caught.value.status, caught.value.code) == (404, "unknown_model")
        with pytest.raises(RequestError) as caught:
            client.unload("echo_fp32")
        assert caught.value.code == "control_disabled"


def test_the_client_of_tests_speaks_over_a_unix_socket(tmp_path: Path) -> None:
    with samovar.testing.serve(APPS / "sum.py", host=f"unix:{tmp_path}/s", spare_workers=0) as server:
        one = np.ones((1, 2), np.float32)
        assert samovar.testing.infer(server, "sum", a=one, b=one)["total"].tolist() == [[2, 2]]
