"""Keras on JAX, where TensorFlow is not installed."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import pytest

from formats.keras_models import *  # noqa: F403 - the tests of every backend

FORMAT = "keras"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(280)]
