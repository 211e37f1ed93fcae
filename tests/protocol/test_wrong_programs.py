"""Programs and requests that are wrong in the ways that people are: each is told what is wrong, where, and the cure."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from notes import Notes
from protocol.uploads import MULTIPART, error, form, post
from serving import Serve
from watching import eventually

SERVICE = "import samovar\n\n@samovar.service\nclass Greeter:\n"
MODEL = """
import numpy as np
from jaxtyping import Float32
import samovar

X = Float32[np.ndarray, "batch n"]

@samovar.model
class NAME:
    other = samovar.use(OTHER)
    def predict(self, x: X) -> X:
        return self.other.predict.sync(x)
"""
GREET = "    @samovar.api\n    async def greet(self, name: str) -> str:\n        return name\n"
PROGRAMS: dict[str, tuple[str, ...]] = {
    "missing annotation": (
        SERVICE + "    @samovar.api\n    async def greet(self, name, times: int = 1) -> str:\n        return name\n",
        'wrong.py: parameter "name" of Greeter.greet has no annotation; ',
        "write for instance name: str, name: samovar.Image",
    ),
    "missing annotation of the result": (
        SERVICE + "    @samovar.api\n    async def greet(self, name: str):\n        return name\n",
        "wrong.py: Greeter.greet has no return annotation; write for instance -> dict[str, float], or -> None",
    ),
    "wrong annotation of a stream": (
        SERVICE + "    @samovar.api\n    async def greet(self, name: str) -> str:\n        yield name\n",
        "wrong.py: Greeter.greet yields, but its return annotation is no AsyncIterator of items; ",
        "write -> AsyncIterator[...]",
    ),
    "unknown model": (
        SERVICE + '    other = samovar.use("grammer")\n' + GREET,
        'wrong.py:Greeter: service "greeter" (other) uses "grammer", and no target has a model of that name; ',
        "greeter",  # what there is
    ),
    "unknown file": (
        SERVICE + '    net = samovar.use("wight.onnx")\n' + GREET,
        'wrong.py:Greeter: service "greeter" (net) uses what cannot be served: ',
        'target "FOLDER/wight.onnx" does not exist; ',
        "wrong.py",  # what there is
    ),
    "handle outside a class": (
        'import samovar\n\nnet = samovar.use("net.onnx")\n',
        "wrong.py: samovar.use('net.onnx') stands outside a class; ",
        "write it into the body of a service or model class: name = samovar.use(...)",
    ),
    "exception in load": (
        SERVICE + '    def load(self) -> None:\n        self.words = open("words.txt").read()\n\n' + GREET,
        "wrong.py: ",
        'service "greeter" version "1": Greeter.load() raised FileNotFoundError: ',
        "No such file or directory: 'words.txt'; see wrong.py, line 6",
    ),
    "duplicate names": (
        SERVICE + GREET + '\n@samovar.service(name="greeter")\nclass Other:\n' + GREET,
        'wrong.py: classes Greeter and Other of wrong.py are both "greeter" version "1"; ',
        "rename one with name=... in its decorator",
    ),
    "class that is no model": (
        "import samovar\n\nclass Grammar:\n    def predict(self, x): ...\n\n@samovar.service\nclass Greeter:\n"
        "    other = samovar.use(Grammar)\n" + GREET,
        "wrong.py: samovar.use(Grammar): Grammar is no model; write @samovar.model above class Grammar",
    ),
    "no method": (
        SERVICE + "    def greet(self, name: str) -> str:\n        return name\n",
        "wrong.py: service Greeter serves nothing; ",
        "write @samovar.api above a method, or samovar.mount(path, app) in its body",
    ),
}
AT_GREET = GREET.replace("api", 'api(path="/greet")')
CONTRADICTIONS: dict[str, tuple[dict[str, str], str, str]] = {
    "cycle": (
        {
            "hen.py": MODEL.replace("NAME", "Hen").replace("OTHER", '"egg"'),
            "egg.py": MODEL.replace("NAME", "Egg").replace("OTHER", '"hen.py:Hen"'),
        },
        "models use each other in a circle: egg -> hen -> egg; ",
        "put what both need into a model of its own",
    ),
    "duplicate names": (
        {"one.py": SERVICE + GREET, "two.py": SERVICE + GREET},
        'FOLDER/one.py and FOLDER/two.py both have model "greeter" version "1"; ',
        "rename one with",
    ),
    "duplicate paths": (
        {"one.py": SERVICE + AT_GREET, "two.py": SERVICE.replace("Greeter", "Other") + AT_GREET},
        'service "greeter" and service "other" both answer POST /greet; ',
        "give one of them another path with @samovar.api(path=...)",
    ),
}


def serve_once(folder: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    """`samovar serve`, which is to end by itself."""
    command = [sys.executable, "-m", "samovar", "serve", *targets, "--http-port", "0", "--grpc-port", "0"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)


def told(ended: subprocess.CompletedProcess[str]) -> str:
    """What is said to the person at the terminal."""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert lines[0].startswith("samovar: ")
    assert not any("Traceback" in line for line in lines)
    return "\n".join(lines)


def in_turn(text: str, parts: list[str], folder: Path) -> None:
    """These parts stand there in this order."""
    for part in parts:
        wanted = part.replace("FOLDER", str(folder))
        assert wanted in text
        text = text.partition(wanted)[2]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_wrong_program_does_not_start_and_is_told_where_and_how_to_cure_it(tmp_path: Path, name: str) -> None:
    text, *message = PROGRAMS[name]
    (tmp_path / "wrong.py").write_text(text)
    ended = serve_once(tmp_path, "wrong.py")
    assert ended.returncode == 1
    in_turn(told(ended), message, tmp_path)


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_programs_that_contradict_each_other_do_not_start(tmp_path: Path, name: str) -> None:
    files, *message = CONTRADICTIONS[name]
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    ended = serve_once(tmp_path, *files)
    assert ended.returncode == 2
    in_turn(told(ended), message, tmp_path)


def test_a_program_that_does_not_exist_is_told_with_those_that_do(tmp_path: Path) -> None:
    (tmp_path / "plates.py").write_text(SERVICE + GREET)
    ended = serve_once(tmp_path, "plaets.py")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert told(ended) == 'samovar: target "plaets.py" does not exist; what can be served there: plates.py'


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exception in load", "No such file or directory: 'words.txt'; see wrong.py, line 6"),
        ("unknown model", 'uses "grammer", and no target has a model of that name; did you mean "grammar"?'),
    ],
)
def test_a_wrong_program_stands_as_failed_beside_a_good_one(
    serve: Serve, tmp_path: Path, name: str, message: str
) -> None:
    wrong, good = tmp_path / "wrong.py", tmp_path / "good.py"
    wrong.write_text(PROGRAMS[name][0])
    good.write_text(SERVICE.replace("Greeter", "Grammar") + GREET)
    served = serve(str(wrong), str(good))
    assert served.http.post("/grammar/greet", {"name": "a"}).json() == "a"
    answer = served.http.get("/v2/models/greeter/ready")
    assert (answer.status, answer.code()) == (503, "model_failed")
    assert message in answer.json()["error"]
    assert message in served.stdout_path.read_text()


def test_a_service_that_could_not_be_loaded_tells_those_who_call_it(serve: Serve, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(PROGRAMS["exception in load"][0])
    served = serve(str(wrong), "echo.py:EchoFp32")
    for path in ("/greeter/greet", "/greeter/docs", "/greeter"):
        answer = served.http.post(path, {"name": "a"})
        assert (answer.status, answer.code()) == (503, "model_failed"), path
        assert "No such file or directory: 'words.txt'; see wrong.py, line 6" in answer.json()["error"]


def test_a_wrong_result_is_told_with_what_was_annotated(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text(SERVICE + GREET.replace("-> str", "-> list[int]"))
    answer = serve(str(program)).http.post("/greeter/greet", {"name": "a"})
    assert (answer.status, error(answer)["code"]) == (500, "bad_model_output")
    assert answer.json()["error"] == (
        "Greeter.greet: the result is str: input should be a valid list; return what is annotated"
    )


def test_a_handle_that_is_made_in_a_method_is_told_where_it_belongs(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text(SERVICE + GREET.replace("return name", 'return samovar.use("net.onnx")'))
    answer = serve(str(program)).http.post("/greeter/greet", {"name": "a"})
    assert (answer.status, answer.code()) == (500, "model_error")
    assert (
        "samovar.use('net.onnx') stands outside a class; write it into the body of a service" in answer.json()["error"]
    )


def test_a_step_that_waits_in_a_coroutine_is_told_to_await(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    model = MODEL.replace("NAME", "Inner").replace("    other = samovar.use(OTHER)\n", "")
    uses = "\n@samovar.service\nclass Greeter:\n    inner = samovar.use(Inner)\n"
    method = GREET.replace("return name", "return str(self.inner.predict.sync([[1]]))")
    program.write_text(model.replace("self.other.predict.sync(x)", "x") + uses + method)
    served = serve(str(program))
    answer = served.http.post("/greeter/greet", {"name": "a"})
    assert (answer.status, answer.code()) == (500, "model_error")
    assert (
        "step inner.predict.sync waits in the event loop, and every other request with it; " in answer.json()["error"]
    )
    assert "write await and leave out .sync, or make the method def instead of async def" in answer.json()["error"]


def test_a_blocking_call_in_a_coroutine_is_told_in_the_log_with_its_line(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("held.py")
    notes = Notes.within(tmp_path)
    blocking = background.submit(served.http.post, "/held/blocking", {"note": str(notes.note)})
    notes.wait("blocking")
    said = "the event loop has been blocked for "
    eventually(lambda: said in served.output(), "it is told")
    notes.go()
    assert blocking.result().status == 200
    (line,) = [line for line in served.log() if said in line["message"]]
    assert (line["model"], line["stream"]) == ("held", "stderr")
    for words in ("held.py:", "in held_sync", "in blocking", "asyncio.to_thread", "def instead of async def"):
        assert words in line["message"]


def test_what_is_no_image_or_too_large_a_one_is_told_with_what_is_taken(serve: Serve) -> None:
    served = serve("typed.py", options=["--max-body-bytes", "200000"])
    large = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(large, "png")
    cases = {
        b"no image at all": "got 15 bytes; no image can be read: its format is unknown; send one of ",
        b"": "got 0 bytes; no image can be read: its format is unknown; send one of ",
        large.getvalue(): "the image is 9000 x 9000, more than 50 megapixels; send a smaller one",
        large.getvalue()[:-20]: "the image is 9000 x 9000, more than 50 megapixels; send a smaller one",
    }
    for data, message in cases.items():
        answer = post(served, "/typed/turn", form(files=[("image", "a.png", data)]), MULTIPART)
        told_of = error(answer)
        assert (answer.status, told_of["code"]) == (422, "invalid_input")
        assert told_of["error"].startswith('body: field "image": got ')
        assert message in told_of["error"]
    answer = post(served, "/typed/turn", form(files=[("image", "a.png", bytes(300_000))]), MULTIPART)
    assert (answer.status, answer.code()) == (413, "payload_too_large")
    assert "larger than the limit of 200000 bytes" in answer.json()["error"]
