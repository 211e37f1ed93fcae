"""Who runs with whom, seen in answers and metrics."""

import numpy as np

from protocol.asking import FORMS, ask_arrays
from protocol.gates import Begin, row
from watching import eventually, metric


def test_requests_that_wait_are_run_together(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    waiting = engine.queue("gate", [row(n) for n in range(7)])
    engine.release()
    held[0].result().arrays()
    for n, future in enumerate(waiting):
        answer = future.result().arrays()
        assert answer["output"].tolist() == [[n]]
        assert answer["rows"].tolist() == [7]
    assert metric(engine.served, "samovar_batches_total", model="gate") == 2
    assert metric(engine.served, "samovar_items_total", model="gate") == 8
    assert metric(engine.served, "samovar_batch_size_sum", model="gate") == 8
    assert metric(engine.served, "samovar_batch_size_bucket", model="gate", le="4") == 1


def test_batches_of_clients_are_joined(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    batches = [np.arange(rows, dtype=np.float32).reshape(rows, 1) + 10 * rows for rows in (3, 1, 2)]
    waiting = engine.queue("gate", batches)
    engine.release()
    held[0].result().arrays()
    for x, future in zip(batches, waiting, strict=True):
        answer = future.result().arrays()
        np.testing.assert_array_equal(answer["output"], x)
        assert set(answer["rows"].tolist()) == {6}


def test_batch_above_the_limit_is_split_and_put_together_in_its_order(gated: Begin) -> None:
    engine = gated("Gate")
    x = np.arange(42, dtype=np.float32).reshape(21, 2)
    for form in FORMS:
        arrays = ask_arrays(engine.served, form, "gate", {"x": x}).arrays()
        np.testing.assert_array_equal(arrays["output"], x)
        assert len(arrays["rows"]) == 21
        assert max(arrays["rows"]) <= 8
    assert metric(engine.served, "samovar_items_total", model="gate") == 84
    assert metric(engine.served, "samovar_requests_total", model="gate", code="ok") == 4


def test_shapes_that_differ_are_not_mixed(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    rows = [row(*range(width)) for width in (1, 2, 1, 2, 3, 1)]
    waiting = engine.queue("gate", rows)
    engine.release()
    held[0].result().arrays()
    together = {1: 3, 2: 2, 3: 1}
    for x, future in zip(rows, waiting, strict=True):
        answer = future.result().arrays()
        np.testing.assert_array_equal(answer["output"], x)
        assert answer["rows"].tolist() == [together[x.shape[1]]]


def test_zero_rows_run_alone(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    nothing = np.empty((0, 1), np.float32)
    waiting = engine.queue("gate", [row(1), nothing, row(2)])
    engine.release()
    held[0].result().arrays()
    answers = [future.result().arrays() for future in waiting]
    assert [answer["output"].tolist() for answer in answers] == [[[1]], [], [[2]]]


def test_full_batch_is_sent_ahead_and_runs_next(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    waiting = [engine.send("gate", row(n)) for n in range(8)]
    eventually(lambda: metric(engine.served, "samovar_in_flight", model="gate") == 2, "a second call is sent")
    assert engine.waiting("gate") == 0
    engine.release()
    held[0].result().arrays()
    assert [future.result().arrays()["rows"].tolist() for future in waiting] == [[8]] * 8


def test_each_instance_works_in_a_process_of_its_own(gated: Begin) -> None:
    engine = gated("Three")
    eventually(lambda: metric(engine.served, "samovar_workers", model="three") == 3, "three instances")
    held = engine.hold("three", 3)
    engine.release()
    pids = {int(future.result().arrays()["pid"][0]) for future in held}
    assert len(pids) == 3
    assert pids < set(engine.served.workers())


def test_free_instance_takes_what_the_others_are_too_busy_for(gated: Begin) -> None:
    engine = gated("Three")
    eventually(lambda: metric(engine.served, "samovar_workers", model="three") == 3, "three instances")
    held = engine.hold("three", 2)
    for n in range(5):
        assert engine.served.http.infer("three", {"x": row(n)}).arrays()["output"].tolist() == [[n]]
    engine.release()
    assert all(future.result().status == 200 for future in held)


def test_call_sent_ahead_is_taken_back_when_another_instance_is_free(gated: Begin) -> None:
    engine = gated("Three")
    eventually(lambda: metric(engine.served, "samovar_workers", model="three") == 3, "three instances")
    held = engine.hold("three", 3)
    ahead = [engine.send("three", row(n)) for n in range(3)]
    eventually(lambda: metric(engine.served, "samovar_in_flight", model="three") == 6, "three calls are sent ahead")
    engine.release(1)
    assert [future.result().status for future in ahead] == [200] * 3  # while two instances are still held
    engine.release()
    assert all(future.result().status == 200 for future in held)


def test_coroutines_of_one_instance_run_together(gated: Begin) -> None:
    engine = gated("Together")
    waiting = [engine.send("together", row(8)) for _ in range(12)]
    assert {int(future.result().arrays()["output"][0, 0]) for future in waiting} == {8}


def test_delay_waits_for_mates_and_no_longer_than_for_a_full_batch(gated: Begin) -> None:
    engine = gated("Patient")
    waiting = [engine.send("patient", row(n)) for n in range(4)]
    assert [future.result().arrays()["rows"].tolist() for future in waiting] == [[4]] * 4


def test_delay_ends_for_the_lonely(gated: Begin) -> None:
    engine = gated("Polite")
    assert engine.served.http.infer("polite", {"x": row(1)}).arrays()["rows"].tolist() == [1]
    assert metric(engine.served, "samovar_stage_seconds_sum", model="polite", stage="queue") >= 0.05


def test_item_that_expires_in_the_queue_takes_nobody_with_it(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    waiting = engine.queue("gate", [row(1), row(2), row(3)])
    assert engine.send("gate", row(4), samovar_timeout_ms="1").result().status == 504  # in the queue
    engine.release()
    held[0].result().arrays()
    assert [future.result().arrays()["rows"].tolist() for future in waiting] == [[3]] * 3
