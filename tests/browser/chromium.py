"""Chromium without a window, spoken to by the DevTools protocol."""

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

TIMEOUT_S = 20.0
# What it asks its maker is none of a page's; nobody reads what it says; /dev/shm of containers is too small for it.
_OPTIONS = (
    "--headless",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--log-level=3",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
_COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


class Page:
    """The one page of a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []
        for domain in ("DOM", "Log", "Network", "Page", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; what is told meanwhile is kept."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(TIMEOUT_S))
            if message.get("id") != number:
                self._events.append(message)
                continue
            assert "error" not in message, f"{method}: {message['error']}"
            result: dict[str, Any] = message["result"]
            return result

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of a JavaScript expression as soon as it is true; what is looked at later may be drawn anew."""
        look = f"const look = () => {{ const it = {expression}; it ? done(it) : setTimeout(look, 10) }}; look()"
        return self.evaluate(f"new Promise(done => {{ {look} }})")

    def open(self, address: str) -> None:
        """Go there and return when everything that the page names has come; what an earlier page told is forgotten."""
        self._load("about:blank")  # one that differs behind the # alone would not be loaded anew
        self._events.clear()
        self._load(address)

    def follow(self, selector: str) -> None:
        """Click at a link and return when its page has come; what waits in a page would end with that page."""
        with self._loaded():
            self.click(selector)

    def _load(self, address: str) -> None:
        with self._loaded():
            self.call("Page.navigate", url=address)

    @contextmanager
    def _loaded(self) -> Iterator[None]:
        loads = len(self._told("Page.loadEventFired"))
        yield
        while len(self._told("Page.loadEventFired")) == loads:
            self._events.append(json.loads(self._connection.recv(TIMEOUT_S)))

    def click(self, selector: str) -> None:
        """Click at an element as soon as it is there."""
        found = f"document.querySelector({selector!r})"
        self.wait_for(f"{found} && ({found}.click(), true)")

    def choose(self, selector: str, file: Path) -> None:
        """Put a file into an input."""
        self.wait_for(f"document.querySelector({selector!r}) !== null")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def requested(self) -> list[str]:
        """The addresses that the page has asked for."""
        self.evaluate("0")  # what was told until now has come
        return [event["params"]["request"]["url"] for event in self._told("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """What stands on the console, broken policies and exceptions included."""
        self.evaluate("0")  # what was told until now has come
        return [json.dumps(event["params"]) for event in self._told(*_COMPLAINTS)]

    def _told(self, *methods: str) -> list[dict[str, Any]]:
        return [event for event in self._events if event["method"] in methods]


@contextmanager
def chromium(program: str, profile: Path) -> Iterator[Page]:
    """A page of a browser that ends with the block."""
    options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}"]
    command = [program, *options, "about:blank"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        with connect(_page_of(process), max_size=None) as connection:
            yield Page(connection)
    finally:
        process.kill()
        process.communicate()


def _page_of(process: "subprocess.Popen[bytes]") -> str:
    """The address of the page, as soon as the browser tells its own."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line.decode(errors="replace"))
        if "DevTools listening on ws://" in said[-1]:
            host = said[-1].partition("ws://")[2].partition("/")[0]
            with urlopen(f"http://{host}/json/list", timeout=TIMEOUT_S) as answer:
                targets = json.load(answer)
            return str(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))
    raise AssertionError(f"the browser ended\n{''.join(said)}")
