"""Paddle comes before TensorFlow: in the other order their libraries end in a crash (3.3 and 2.21)."""

import os
import warnings

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a missing compiler cache
    import paddle  # noqa: F401
