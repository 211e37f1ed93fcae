"""docs/guides: the code of the pages runs and says what the pages say."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

import models
from formats.recipes import PLAYED, UNPLAYED, recipes
from guides import GUIDES, Reader, block, needs_curl
from serving import Serve


@needs_curl
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", ["services.md", "composition.md", "streaming.md"])
def test_what_the_guide_says_happens(page: str, reader: Reader) -> None:
    reader.read(GUIDES / page)


def test_the_model_of_the_guide_is_served_with_the_settings_of_the_guide(serve: Serve, tmp_path: Path) -> None:
    file, settings = tmp_path / "classifier.py", tmp_path / "settings.toml"
    file.write_text(block(GUIDES / "python-models.md", "python"))
    settings.write_text(block(GUIDES / "python-models.md", "toml"))
    served = serve(str(file), options=["--config", str(settings)])
    pixels, top = np.ones((2, 3, 24, 94), np.float32), np.array([7, 8], np.int64)
    answer = served.http.infer("classifier", {"pixels": pixels, "top": top}).arrays()
    np.testing.assert_array_equal(answer["score"], np.array([1.5, 1.5], np.float32))
    assert answer["label"].ravel().tolist() == [b"7", b"8"]
    metrics = served.http.get("/metrics").body.decode()
    assert 'samovar_workers{model="classifier",version="1"} 4' in metrics
    assert 'process="classifier/1/3"' in metrics


def test_the_file_of_the_guide_is_served_and_answers_what_the_guide_says(serve: Serve, tmp_path: Path) -> None:
    file = models.scale(tmp_path / "double.onnx")
    page = block(GUIDES / "serving-files.md", "")
    request = re.search(r"-d '(.*)'", page)
    assert request is not None
    served = serve(str(file))
    assert "double (version 1) ready, batches of up to 64 rows" in served.stdout_path.read_text()
    answer = served.http.request("POST", "/v2/models/double/infer", request[1].encode())
    assert answer.body.decode() == page.splitlines()[-1]


def test_the_settings_of_the_guide_fit_beside_the_file(serve: Serve, tmp_path: Path) -> None:
    file = models.echo(tmp_path / "double.onnx", shape=(None, None))
    (tmp_path / "samovar.toml").write_text(block(GUIDES / "serving-files.md", "toml"))
    served = serve(str(file))
    assert served.http.get("/v2/models/double").json()["inputs"][0]["shape"] == [-1, 3]
    assert served.http.get("/v2/models/double/config").json()["max_batch_size"] == 32


def test_the_model_of_the_guide_runs_without_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.scale(tmp_path / "double.onnx")
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(block(GUIDES / "serving-files.md", "python"), {})
    assert output.getvalue().endswith("[[2. 4. 6.]]\n")


def test_every_recipe_of_a_format_is_played_or_said_why_not() -> None:
    played = {title for titles in PLAYED.values() for title in titles}
    assert set(recipes()) == played | set(UNPLAYED)
    assert not played & set(UNPLAYED)
