"""Requests to the services of apps/held.py."""

import json
from urllib.parse import quote

from http_door import Answer
from notes import Notes
from serving import Served

JSON = {"content-type": "application/json"}


def ask(served: Served, name: str, notes: Notes, **headers: str) -> Answer:
    """A request to one of the methods of apps/held.py."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    query, body = f"?note={quote(str(notes.note))}", json.dumps({"note": str(notes.note)}).encode()
    match name:
        case "get" | "get_sync":
            return served.http.request("GET", f"/held/{name}{query}", headers=named)
        case "mounted get" | "mounted head" | "mounted post":
            return served.http.request(name.split()[1].upper(), f"/held-app/{query}", headers=named)
        case _:
            return served.http.request("POST", f"/held/{name}", body, {**JSON, **named})
