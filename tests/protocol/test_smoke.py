"""The walk of one request, end to end: the first thing to run when anything seems broken."""

import numpy as np
import pytest

from serving import NotReadyError, Serve, both_transports


@both_transports
def test_json_request_is_answered(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32")
    x = np.array([[1.5, -2.0, 3.25]], np.float32)
    np.testing.assert_array_equal(served.http.infer("echo_fp32", {"x": x}).arrays()["output"], x)


@both_transports
def test_binary_request_with_two_inputs_and_outputs_is_answered(serve: Serve) -> None:
    served = serve("sum.py")
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    answer = served.http.infer_binary("sum", {"a": a, "b": b}).arrays()
    np.testing.assert_array_equal(answer["total"], a + b)
    np.testing.assert_array_equal(answer["difference"], a - b)


def test_ready_file_and_health_tell_the_same(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", "loadfail.py")
    assert served.model("echo_fp32")["state"] == "ready"
    failed = served.model("loadfail")
    assert failed["state"] == "failed"
    assert "the weights are not there" in str(failed["cause"])
    assert served.http.get("/v2/health/ready").status == 200
    assert served.http.get("/v2/models/echo_fp32/ready").status == 200
    assert served.http.get("/v2/models/loadfail/ready").status == 503


def test_exception_in_a_model_is_a_500_with_a_code(serve: Serve) -> None:
    served = serve("raising.py")
    answer = served.http.infer("raising", {"x": np.array([[-1.0]], np.float32)})
    assert (answer.status, answer.code()) == (500, "model_error")


def test_death_of_a_worker_is_survived(serve: Serve) -> None:
    served = serve("dying.py")
    http = served.http
    assert http.infer("dying", {"how": np.array([[1]], np.int32)}).status == 500
    how = np.zeros((1, 1), np.int32)
    np.testing.assert_array_equal(http.infer("dying", {"how": how}).arrays()["output"], how)


def test_start_fails_with_the_cause_when_no_target_loads(serve: Serve) -> None:
    with pytest.raises(NotReadyError, match="the weights are not there"):
        serve("loadfail.py")


def test_metrics_count_the_request(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32")
    served.http.infer("echo_fp32", {"x": np.ones((1, 1), np.float32)})
    lines = served.http.get("/metrics").body.decode().splitlines()
    counted = [line for line in lines if line.startswith("samovar_requests_total{") and 'model="echo_fp32"' in line]
    assert [line.split()[-1] for line in counted] == ["1"]
