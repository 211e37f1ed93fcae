"""TorchScript in this process."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samovar
from pytorch.modules import Double, Sums, scripted
from samovar.errors import InputError


def test_an_undeclared_module_takes_any_array(tmp_path: Path) -> None:
    with samovar.load(scripted(Double(), tmp_path / "double.pt")) as model:
        assert repr(model) == '<model "double" (torchscript): x ? [?] -> output ? [?]>'
        for x in (np.ones((2, 3), np.float16), np.array(3), np.ones(0, np.float64)):
            output = model.predict(x)
            assert (output.dtype, output.tolist()) == (x.dtype, (x * 2).tolist())
        assert model.predict([1, 2]).tolist() == [2, 4]
        with pytest.raises(InputError, match="dtype complex128 is none that a model takes"):
            model.predict(np.ones(2, complex))


def test_declared_outputs_have_their_names(tmp_path: Path) -> None:
    (tmp_path / "samovar.toml").write_text('outputs = [{ name = "total" }, { name = "difference" }]\n')
    with samovar.load(scripted(Sums(), tmp_path / "sums.pt")) as model:
        results = model.predict(np.ones(2, np.float32), b=np.ones(2, np.float32))
        assert (results.total.tolist(), results.difference.tolist()) == ([2, 2], [0, 0])


def test_an_archive_may_carry_the_preparation_of_its_images(tmp_path: Path) -> None:
    tensor = 'datatype = "FP32", shape = ["batch", 3, 4, 4]'
    declared = f'inputs = [{{ name = "x", {tensor} }}]\noutputs = [{{ name = "output", {tensor} }}]'
    inside = f"{declared}\n[preprocess]\nscale = 1\nchannels = 'BGR'\n"
    path = scripted(Double(), tmp_path / "double.pt", inside)
    photo = tmp_path / "red.png"
    Image.new("RGB", (8, 8), (100, 0, 0)).save(photo)
    with samovar.load(path) as model:
        assert model.predict([photo.read_bytes()])[0, :, 0, 0].tolist() == [0, 0, 200]
    with samovar.load(path, preprocess={"channels": "RGB"}) as model:
        assert model.predict([photo.read_bytes()])[0, :, 0, 0].tolist() == [200, 0, 0]
    with samovar.load(path, preprocess=False) as model:
        assert [tensor.datatype for tensor in model.signature.inputs] != ["BYTES"]
