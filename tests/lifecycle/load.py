"""Clients that keep calling while a test does harm."""

import itertools
import json
import threading
from dataclasses import dataclass
from typing import Self

from http_door import Answer, Http, json_tensor
from watching import keyed


@dataclass(frozen=True)
class Sent:
    """A request and what came of it; None where the connection broke."""

    key: int
    answer: Answer | None


class Load:
    """Threads that call one of the models of apps/mortal.py over kept-alive connections until the block ends.

    Every request has a key of its own. `sent` grows while they run.
    """

    def __init__(self, http: Http, model: str, *, clients: int = 6, seconds: float = 0.005, **headers: str) -> None:
        self.sent: list[Sent] = []
        self._http = http
        self._path = f"/v2/models/{model}/infer"
        self._seconds = seconds
        self._headers = {name.replace("_", "-"): text for name, text in headers.items()}
        self._keys = itertools.count(1)
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wrong(self) -> list[Sent]:
        """Requests whose answer is not twice their key."""
        return [sent for sent in self.sent if not is_right(sent)]

    def _run(self) -> None:
        connection = self._http.connect()
        while not self._is_over.is_set():
            key = next(self._keys)
            inputs = [json_tensor(name, array) for name, array in keyed(key, self._seconds).items()]
            body = json.dumps({"inputs": inputs}).encode()
            try:
                answer = self._http.request("POST", self._path, body, self._headers, connection)
            except OSError:
                self.sent.append(Sent(key, None))
                connection.close()
            else:
                self.sent.append(Sent(key, answer))
        connection.close()


def is_right(sent: Sent) -> bool:
    """The answer is twice the key."""
    answer = sent.answer
    return answer is not None and answer.status == 200 and answer.arrays()["double"].tolist() == [[2 * sent.key]]
