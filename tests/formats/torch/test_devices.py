"""The device of the runtimes of torch: where it is not there, what is told; and that its tensors go there and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formats.torch.folders import TEXTS, load, saved
from samovar.errors import ConfigError
from samovar.runtimes.torchmodel import TorchModel, device_of
from samovar.types import Datatype, Signature, TensorSpec

FORMAT = "pytorch"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


def test_a_device_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    assert device_of(tmp_path, {"device": "cpu"}) == torch.device("cpu")
    absent = [name for name in ("cuda:99", "mps") if name != "mps" or not torch.backends.mps.is_available()]
    for name in (*absent, "meta", "gpu", "cuda:x"):
        with pytest.raises(
            ConfigError, match=rf'"device" of \S+ is .{name}., which torch .* cannot use: .+; it has cpu'
        ):
            device_of(tmp_path, {"device": name})


def test_a_runtime_refuses_it_at_the_load(tmp_path: Path) -> None:
    saved(tmp_path / "texts", "BertModel")
    with pytest.raises(ConfigError, match=r'"device" of texts is .cuda:99.'):
        load("transformers", tmp_path / "texts", device="cuda:99")
    assert load("transformers", tmp_path / "texts", device="cpu").predict([TEXTS])[0].shape == (len(TEXTS), 16)


def test_tensors_go_to_the_device_and_come_back() -> None:
    seen: list[Any] = []

    def call(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.device.type)
        return torch.ones(x.shape)

    tensor = TensorSpec("x", Datatype.FP32, (3,))
    model = TorchModel(call, Signature((tensor,), (tensor,), True), copies_inputs=True, device=torch.device("meta"))
    (found,) = model.predict([np.zeros((2, 3), np.float32)])
    assert (seen, found.tolist()) == (["meta"], [[1.0] * 3] * 2)
