"""Sentence Transformers: vectors of texts beside the framework's own, options, code and pickles."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from formats.compared import Arrays, check_answers
from formats.torch.folders import TEXTS, check_batches, check_damaged, inspect, load, saved
from samovar.errors import ConfigError, UnsafeFormatError
from serving import Serve

FORMAT = "sentence_transformers"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


def vectors(folder: Path) -> SentenceTransformer:
    """A folder whose texts become 16 numbers."""
    saved(folder.parent / "bert", "BertModel")
    words = modules.Transformer(str(folder.parent / "bert"))
    pooling = modules.Pooling(words.get_embedding_dimension(), pooling_mode="mean")
    model = SentenceTransformer(modules=[words, pooling], prompts={"query": "where is"}, device="cpu")
    model.save(str(folder))
    return model


def expected(model: SentenceTransformer, **settings: Any) -> Any:
    def embedded(some: Arrays) -> Arrays:
        return {"embedding": model.encode([text.decode() for text in some["text"]], **settings)}

    return embedded


def test_texts_become_vectors(serve: Serve, tmp_path: Path) -> None:
    model = vectors(tmp_path / "vectors")
    served = check_answers(serve, tmp_path / "vectors", {"text": TEXTS}, expected(model))
    described = served.http.get("/v2/models/vectors").json()
    assert described["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert described["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 16]}]


def test_options_are_those_of_encode(tmp_path: Path) -> None:
    model = vectors(tmp_path / "vectors")
    loaded = load(FORMAT, tmp_path / "vectors", normalise=True, dimensions=8, prompt="query")
    settings = {"normalize_embeddings": True, "truncate_dim": 8, "prompt_name": "query"}
    check_batches(loaded, {"text": TEXTS}, expected(model, **settings))
    with pytest.raises(ConfigError, match="vectors have 16"):
        inspect(FORMAT, tmp_path / "vectors", dimensions=17)
    with pytest.raises(ConfigError, match="query"):
        inspect(FORMAT, tmp_path / "vectors", prompt="poem")


CODE = """
from pathlib import Path
from sentence_transformers.sentence_transformer.modules import Normalize

Path({note!r}).touch()

class Tea(Normalize):
    pass
"""


def test_a_module_of_the_folder_runs_only_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "home"))
    model = vectors(tmp_path / "vectors")
    file = tmp_path / "vectors" / "modules.json"
    further = {"idx": 2, "name": "2", "path": "2_Tea", "type": "tea.Tea"}
    file.write_text(json.dumps([*json.loads(file.read_text()), further]))
    (tmp_path / "vectors" / "2_Tea").mkdir()
    (tmp_path / "vectors" / "tea.py").write_text(CODE.format(note=str(tmp_path / "run")))
    with pytest.raises(UnsafeFormatError, match=r"unsafe_format: .* tea\.Tea.* --trust vectors"):
        inspect(FORMAT, tmp_path / "vectors")
    assert not (tmp_path / "run").exists()
    loaded = load(FORMAT, tmp_path / "vectors", trust=True)
    check_batches(loaded, {"text": TEXTS}, expected(model, normalize_embeddings=True))
    assert (tmp_path / "run").exists()


def test_pickled_weights_are_read_only_where_they_are_trusted(tmp_path: Path) -> None:
    model = vectors(tmp_path / "vectors")
    (weights,) = (tmp_path / "vectors").rglob("*.safetensors")
    weights.unlink()
    torch.save(model[0].model.state_dict(), weights.with_name("pytorch_model.bin"))
    with pytest.raises(UnsafeFormatError, match=r"unsafe_format: .*pytorch_model.bin"):
        inspect(FORMAT, tmp_path / "vectors")
    found = load(FORMAT, tmp_path / "vectors", trust=True).predict([TEXTS])[0]
    np.testing.assert_allclose(found, expected(model)({"text": TEXTS})["embedding"], rtol=1e-5, atol=1e-5)


def test_damaged_folders_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    vectors(tmp_path / "vectors")
    (weights,) = (tmp_path / "vectors").rglob("*.safetensors")
    check_damaged(serve, tmp_path / "vectors", str(weights.relative_to(tmp_path / "vectors")), "modules.json")
