"""docs/guides: the code of the pages runs and says what the pages say."""

import re
from pathlib import Path

import numpy as np

from serving import Serve

GUIDES = Path(__file__).parent.parent.parent / "docs" / "guides"


def block(page: str, language: str, index: int = 0) -> str:
    """A fenced block of a guide."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (GUIDES / page).read_text(), re.DOTALL | re.MULTILINE)
    return blocks[index]


def test_the_model_of_the_guide_is_served_with_the_settings_of_the_guide(serve: Serve, tmp_path: Path) -> None:
    file, settings = tmp_path / "classifier.py", tmp_path / "settings.toml"
    file.write_text(block("python-models.md", "python"))
    settings.write_text(block("python-models.md", "toml"))
    served = serve(str(file), options=["--config", str(settings)])
    pixels, top = np.ones((2, 3, 24, 94), np.float32), np.array([7, 8], np.int64)
    answer = served.http.infer("classifier", {"pixels": pixels, "top": top}).arrays()
    np.testing.assert_array_equal(answer["score"], np.array([1.5, 1.5], np.float32))
    assert answer["label"].ravel().tolist() == [b"7", b"8"]
    metrics = served.http.get("/metrics").body.decode()
    assert 'samovar_workers{model="classifier",version="1"} 4' in metrics
    assert 'process="classifier/1/3"' in metrics
