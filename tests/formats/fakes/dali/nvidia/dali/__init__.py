"""FAKE of NVIDIA DALI, which is 1 GB: a pipeline whose "serialised" form says what it does to which input.

It has the calls that the runtime makes: https://docs.nvidia.com/deeplearning/dali/user-guide/docs/pipeline.html
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"\x08\x01FAKE"


class TensorList:
    """The samples of a batch."""

    def __init__(self, samples: list[Any]) -> None:
        self._samples = samples

    def is_dense_tensor(self) -> bool:
        """Whether all have one shape."""
        return len({sample.shape for sample in self._samples}) == 1

    def as_array(self) -> Any:
        """One array of all."""
        return np.stack(self._samples)


class Pipeline:
    """Its outputs are [operation, input] each."""

    def __init__(self, outputs: list[list[str]], batch_size: int) -> None:
        self._outputs, self._batch_size = outputs, batch_size
        self._fed: dict[str, Any] = {}
        self._is_built = False

    @classmethod
    def deserialize(
        cls,
        *,
        filename: str,
        batch_size: int,
        num_threads: int,
        device_id: int | None,
        prefetch_queue_depth: int,
        exec_pipelined: bool,
        exec_async: bool,
    ) -> "Pipeline":
        """The pipeline of a file; as with the vendor's, batches ahead would want more inputs than are fed."""
        assert num_threads > 0
        assert device_id is None
        assert (prefetch_queue_depth, exec_pipelined, exec_async) == (1, False, False)
        content = Path(filename).read_bytes()
        if not content.startswith(MAGIC):
            raise RuntimeError('Assert on "DeserializePipeline(serialized_pipe, def)" failed')
        try:
            return cls(json.loads(content[len(MAGIC) :]), batch_size)
        except ValueError:
            raise RuntimeError("Error parsing serialized pipeline.") from None

    def build(self) -> None:
        """Make it ready to run."""
        self._is_built = True

    @property
    def num_outputs(self) -> int:
        """How many outputs there are."""
        return len(self._outputs)

    def input_feed_count(self, name: str) -> int:
        """How many batches an input wants."""
        if name not in {name for _, name in self._outputs}:
            raise RuntimeError(f'Operator node with name "{name}" not found.')
        return 1

    def feed_input(self, name: str, data: Any) -> None:
        """The samples of the next batch."""
        assert len(data) <= self._batch_size
        self._fed[name] = list(data)

    def run(self) -> tuple[TensorList, ...]:
        """The outputs of the batch that was fed."""
        assert self._is_built, "Current pipeline object is no longer valid."
        operations: dict[str, Any] = {
            "double": lambda sample: sample * 2,
            "sum": lambda sample: sample.sum(dtype=np.int64),
            "same": lambda sample: sample,
            "decode": _decoded,
        }
        self._is_built = False  # for good, if one fails
        found = tuple(TensorList(list(map(operations[does], self._fed[name]))) for does, name in self._outputs)
        self._is_built = True
        return found


def _decoded(sample: Any) -> Any:
    """A black image of a PNG file."""
    if not sample.tobytes().startswith(b"\x89PNG"):
        raise RuntimeError("Critical error in pipeline: Unrecognized image format.")
    return np.zeros((2, 2, 3), np.uint8)
