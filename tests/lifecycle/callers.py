"""Clients of both doors that keep calling while engines come and go."""

import json
import select
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Self

from grpc import Channel, StatusCode, insecure_channel

from grpc_door import OPTIONS, SERVICE, Grpc, message, raw_request
from http_door import DATATYPES, Answer, Http, from_bytes, json_tensor
from watching import eventually, keyed

SECONDS = 0.004
SILENT_S = 0.4
"""Less than an engine gives to an idle connection when it stops."""
_AS_USERS = [option for option in OPTIONS if option[0] != "grpc.enable_retries"]
"""What grpcio had not sent when it heard of a GOAWAY it sends elsewhere, but only with its retries."""


@dataclass(frozen=True)
class Outcome:
    """What came of one request: `fine`, `refused` before it was accepted, or else how it was lost."""

    key: int
    what: str
    pid: int = 0


class Callers:
    """Threads that call the model `mortal` until the block ends.

    Half of them call over HTTP, in turn over connections that they keep and over new ones; the others over gRPC.
    """

    def __init__(self, http: int, grpc: int, *, clients: int = 8) -> None:
        self.outcomes: list[Outcome] = []
        self._http, self._grpc = Http(http), Grpc(grpc)
        self._is_over = threading.Event()
        kinds = (self._keep, self._call, self._renew, self._call)
        self._threads = [
            threading.Thread(target=kinds[number % len(kinds)], args=(1 + number * 1_000_000,))
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Send nothing more, and wait for what is under way."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wait(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        wanted = len(self.outcomes) + count
        eventually(lambda: len(self.outcomes) >= wanted, f"{count} more answers", timeout_s=60)

    def not_fine(self, *but: str) -> list[Outcome]:
        """Requests that were not answered rightly; those that ended as `but` says are left out."""
        return [outcome for outcome in self.outcomes if outcome.what not in ("fine", *but)]

    def _keep(self, key: int) -> None:
        connection, since = self._http.connect(), 0.0
        while not self._is_over.is_set():
            key += 1
            if connection.sock is not None and has_ended(connection):
                connection.close()
            is_kept = connection.sock is not None
            outcome = self._ask(connection, key)
            if outcome.what.startswith("lost") and is_kept and time.monotonic() - since > SILENT_S:
                outcome = self._ask(connection, key)  # a thread that had no turn: it met the end of an idle connection
            since = time.monotonic()
            self._note(outcome)
        connection.close()

    def _renew(self, key: int) -> None:
        while not self._is_over.is_set():
            key += 1
            connection = self._http.connect()
            self._note(self._ask(connection, key))
            connection.close()

    def _ask(self, connection: HTTPConnection, key: int) -> Outcome:
        is_kept = connection.sock is not None
        body = json.dumps({"inputs": [json_tensor(name, array) for name, array in keyed(key, SECONDS).items()]})
        try:
            answer = self._http.request("POST", "/v2/models/mortal/infer", body.encode(), connection=connection)
        except ConnectionRefusedError:
            connection.close()
            return Outcome(key, "refused")
        except OSError as error:
            connection.close()
            return Outcome(key, f"{'lost' if is_kept else 'lost when new'}: {error!r}")
        return judged(key, answer)

    def _call(self, key: int) -> None:
        with insecure_channel(f"127.0.0.1:{self._grpc.port}", options=_AS_USERS) as channel:
            while not self._is_over.is_set():
                key += 1
                self._note(self._send(channel, key))

    def _send(self, channel: Channel, key: int) -> Outcome:
        request = raw_request("mortal", keyed(key, SECONDS)).SerializeToString()
        reply = self._grpc.send(f"{SERVICE}/ModelInfer", request, channel=channel)
        if reply.reason == "shutting_down" or "failed to connect" in reply.text.lower():
            return Outcome(key, "refused")
        if reply.status is not StatusCode.OK:
            return Outcome(key, f"lost: {reply.status} {reply.text}")
        content = message("ModelInferResponse").FromString(reply.content)
        raw = dict(zip((output.name for output in content.outputs), content.raw_output_contents, strict=True))
        double, pid = (int(from_bytes(raw[name], DATATYPES["INT64"])[0]) for name in ("double", "pid"))
        return Outcome(key, "fine" if double == 2 * key else f"wrong: {double}", pid)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if outcome.what == "refused":
            self._is_over.wait(0.01)


def judged(key: int, answer: Answer) -> Outcome:
    """An answer over HTTP."""
    if answer.status == 503 and answer.code() == "shutting_down":
        return Outcome(key, "refused")
    if answer.status != 200:
        return Outcome(key, f"lost: {answer.status} {answer.body[:200]!r}")
    arrays = answer.arrays()
    double, pid = int(arrays["double"][0, 0]), int(arrays["pid"][0, 0])
    return Outcome(key, "fine" if double == 2 * key else f"wrong: {double}", pid)


def has_ended(connection: HTTPConnection) -> bool:
    """Whether the other side has closed an idle connection, as pools look before they use one."""
    return bool(select.select([connection.sock], [], [], 0)[0])
