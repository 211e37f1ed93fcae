"""Keras on TensorFlow: what every backend does, and text, compilation and threads."""

from pathlib import Path

import keras
import numpy as np
import pytest

from formats.compared import check_answers
from formats.keras_models import *  # noqa: F403 - the tests of every backend
from formats.keras_models import X, direct, sequential
from serving import Serve

FORMAT = "keras"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(280)]


def test_text_is_looked_up(serve: Serve, tmp_path: Path) -> None:
    words = keras.Input((), dtype="string", name="word")
    model = keras.Model(words, keras.layers.StringLookup(vocabulary=["a", "b"], name="place")(words))
    model.save(tmp_path / "words.keras")
    inputs = {"word": np.array([b"a", b"b", b"c", b"a"], object)}
    known = {b"a": 1, b"b": 2, b"c": 0}
    check_answers(
        serve,
        tmp_path / "words.keras",
        inputs,
        lambda arrays: {"place": np.array([known[word] for word in arrays["word"]])},
    )


def test_it_is_compiled_where_that_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    model = sequential()
    model.save(tmp_path / "iris.keras")
    options = "runtime_options = { jit_compile = true }\nthreads = 2"
    check_answers(
        serve, tmp_path / "iris.keras", {"features": X}, lambda some: direct(model, ("species",), some), options=options
    )
