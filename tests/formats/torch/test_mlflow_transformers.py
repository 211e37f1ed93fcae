"""MLflow's flavour of transformers: the model is in one folder, its tokenizer in another."""

from pathlib import Path

import pytest
import transformers

from formats.compared import check_answers
from formats.torch.folders import TEXTS, saved
from formats.torch.test_transformers import plain, scored
from serving import Serve

FORMAT = "mlflow"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]
# As mlflow.transformers.save_model of MLflow 3.17 writes it.
MLMODEL = """
flavors:
  python_function:
    loader_module: mlflow.transformers
  transformers:
    code: null
    components:
    - tokenizer
    instance_type: TextClassificationPipeline
    model_binary: model
    pipeline_model_type: BertForSequenceClassification
    task: text-classification
    transformers_version: 5.24.0
mlflow_version: 3.17.2
signature:
  inputs: '[{"type": "string", "required": true}]'
  outputs: '[{"type": "string", "name": "label", "required": true}, {"type": "double",
    "name": "score", "required": true}]'
  params: null
"""


def test_the_tokenizer_is_found_beside_the_model(serve: Serve, tmp_path: Path) -> None:
    labels = ["cold", "warm", "hot"]
    saved(tmp_path / "whole", "BertForSequenceClassification", id2label=dict(enumerate(labels)))
    pipeline = transformers.pipeline("text-classification", model=tmp_path / "whole", top_k=None)
    pipeline.model.save_pretrained(tmp_path / "mood" / "model")
    pipeline.tokenizer.save_pretrained(tmp_path / "mood" / "components" / "tokenizer")
    (tmp_path / "mood" / "MLmodel").write_text(MLMODEL)
    served = check_answers(
        serve, tmp_path / "mood", {"text": TEXTS}, lambda some: scored(pipeline(plain(some["text"])), labels)
    )
    assert served.http.get("/v2/models/mood").json()["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
