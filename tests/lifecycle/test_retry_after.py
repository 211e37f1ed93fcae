"""Who is refused for want of room is told when there will be some."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving import Serve
from watching import eventually, keyed, metric, run, wait_begun

CALL_S = 0.5
WAITING = 20


def test_who_finds_the_queue_full_is_sent_away_for_as_long_as_it_takes_to_drain(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:MortalNarrow")
    assert [run(served.http, "mortal_narrow", key, CALL_S).status for key in (1, 2)] == [200, 200]
    blocker = background.submit(run, served.http, "mortal_narrow", 3, 6.0)
    wait_begun(runs, 3)
    crowd = [  # one more than wait: it is sent ahead
        background.submit(run, served.http, "mortal_narrow", key, CALL_S, samovar_timeout_ms="5000")
        for key in range(WAITING + 1)
    ]
    eventually(lambda: metric(served, "samovar_queue_items", model="mortal_narrow") == WAITING, "the queue is full")
    over_http = run(served.http, "mortal_narrow", 100)
    over_grpc = served.grpc.infer("mortal_narrow", keyed(100))
    assert (over_http.status, over_http.code(), over_grpc.code()) == (429, "queue_full", "queue_full")
    # Calls take their time and a little more, never less.
    assert WAITING * CALL_S <= int(over_http.headers["retry-after"]) <= 2 * WAITING * CALL_S
    assert over_grpc.retry_after_s == int(over_http.headers["retry-after"])
    assert blocker.result().status == 200
    assert {answer.result().status for answer in crowd} == {504}
