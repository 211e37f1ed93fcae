"""Call the model `unit` with the standard library alone: `python call.py [URL]`."""

import json
import sys
import urllib.request

ROWS = [[3.0, 4.0], [0.0, 2.0]]


def call(url: str) -> list[list[float]]:
    """The rows of ROWS, each of length 1."""
    tensor = {"name": "rows", "datatype": "FP32", "shape": [len(ROWS), len(ROWS[0])], "data": ROWS}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = urllib.request.Request(f"{url}/v2/models/unit/infer", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        output = json.load(response)["outputs"][0]
    width = output["shape"][1]
    return [output["data"][i : i + width] for i in range(0, len(output["data"]), width)]


if __name__ == "__main__":
    print(call(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
