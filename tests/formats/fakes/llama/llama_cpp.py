"""FAKE of llama-cpp-python, whose build takes ten minutes: it says the words of a prompt in reverse.

It has the calls that the runtime makes: https://llama-cpp-python.readthedocs.io/en/latest/api-reference/
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Llama:
    """A model that needs no weights."""

    def __init__(
        self,
        model_path: str,
        *,
        n_gpu_layers: int = 0,
        use_mmap: bool = True,
        n_ctx: int = 512,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        verbose: bool = True,
    ) -> None:
        if b"refused by the fake" in Path(model_path).read_bytes():
            raise ValueError(f"Failed to load model from file: {model_path}")
        assert use_mmap
        assert n_threads is None or n_threads == n_threads_batch
        self._context = n_ctx

    def tokenize(self, text: bytes) -> list[int]:
        """A token for each word."""
        return [len(word) for word in text.split()]

    def create_completion(
        self, prompt: str, *, max_tokens: int | None = 16, temperature: float = 0.8, stream: bool = False
    ) -> Any:
        """One completion, or an iterator of its pieces."""
        words = prompt.split()
        assert len(words) < self._context
        pieces = [f" {word[::-1]}" for word in words][:max_tokens]
        if stream:
            return self._chunks(pieces)
        return {"object": "text_completion", "choices": [{"text": "".join(pieces), "finish_reason": "stop"}]}

    def _chunks(self, pieces: list[str]) -> Iterator[dict[str, Any]]:
        for piece in pieces:
            yield {"object": "text_completion", "choices": [{"text": piece, "finish_reason": None}]}
        yield {"object": "text_completion", "choices": [{"text": "", "finish_reason": "stop"}]}
