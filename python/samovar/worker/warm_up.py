"""The warm-up of a version: samples run at every size of batch that calls will have, before there are any.

What is lazy in a model (kernels, arenas, thread pools, compilers) is there then when the first request comes.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from pathlib import Path
from typing import Any

from samovar.codecs.arguments import in_order
from samovar.codecs.fitting import Fitting
from samovar.errors import LoadError, SamovarError, text_of
from samovar.runtimes import LoadedModel
from samovar.runtimes.python.importing import place_in
from samovar.types import Datatype, Signature, TensorSpec

__all__ = ["WarmUp", "batch_sizes", "warm_up_of"]

_ZEROS_S = 2.0  # a network with seconds per batch must not double the time of its load
_ZEROS_SHARED_S = 0.25  # its neighbours wait meanwhile
_ZEROS_BYTES = 256 << 20  # arenas keep what the largest batch took, and the largest may never come
_OFF = "or set warm_up = false"


def warm_up_of(spec: Mapping[str, Any], model: LoadedModel) -> "WarmUp | None":
    """What is to be run for a version with this specification; None where that is nothing.

    The samples are those that the model's `warm_up` gives. Without one they are zeros, which a class runs only where
    the option `warm_up` asks for them: what its code does may have effects. Raises LoadError where zeros are asked for
    and the signature does not say of which shape.
    """
    wanted = spec["options"]["warm_up"]
    if wanted is False:
        return None
    signature = Signature.from_json(dict(spec))
    if model.samples is not None:
        return WarmUp(spec, signature, model, model.samples)
    if wanted is None and model.is_user_code:
        return None
    unknown = [tensor.name for tensor in signature.inputs if tensor.datatype is None or tensor.dims is None]
    if unknown and wanted:
        raise LoadError(
            f'warm_up = true is set, but nobody says datatype and shape of input "{unknown[0]}"',
            f"declare them, give samples in a method warm_up, {_OFF}",
        )
    return None if unknown else WarmUp(spec, signature, model, None)


class WarmUp:
    """The samples of one version; without `samples` they are zeros, in which the axes of any length have length 1."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        signature: Signature,
        model: LoadedModel,
        samples: Callable[[], Any] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name: str = spec["name"]
        self._path: str = spec["source"]["path"]
        self._signature = signature
        self._fitting = Fitting(self._name, signature, writable=spec["options"]["writable_inputs"])
        has_batches = signature.batch_axis and not model.streams
        self._sizes = batch_sizes(spec["options"]["max_batch_size"]) if has_batches else [1]
        self._limit_s = _ZEROS_S if spec["options"]["worker"] == "own" else _ZEROS_SHARED_S
        # A model of images cannot take an empty text.
        self._blanks: Mapping[str, bytes] = getattr(model, "blanks", {})
        self._model = model
        self._samples = samples
        self._clock = clock
        self._note: str | None = None

    def run(self) -> Awaitable[str | None] | str | None:
        """Run everything: None, or what went wrong with zeros, which hinders nobody; an awaitable if predict is async.

        Raises LoadError for a sample of the model's own that fails: a request would fail too.
        """
        samples = None if self._samples is None else self._samples()
        if self._model.is_async:
            return self._run_async(samples)
        if isinstance(samples, Awaitable):
            import asyncio

            samples = asyncio.run(_result(samples))
        for inputs in self._batches(samples):
            with self._told(inputs):
                self._finish(self._first(self._model.predict(inputs)), inputs)
        return self._note

    async def _run_async(self, samples: Any) -> str | None:
        samples = await samples if isinstance(samples, Awaitable) else samples
        for inputs in self._batches(samples):
            with self._told(inputs):
                self._finish(await self._first_async(self._model.predict(inputs)), inputs)
        return self._note

    def _first(self, result: Any) -> Any:
        """The outputs, or the first part of a stream, which need not have an end; None if it has none."""
        if not self._model.streams:
            return result
        with closing(result) as parts:
            return next(parts, None)

    async def _first_async(self, result: Any) -> Any:
        if not self._model.streams:
            return await result
        async with aclosing(result) as parts:
            return await anext(parts, None)

    def _finish(self, outputs: Any, inputs: Sequence[Any]) -> None:
        """Check what a request would get."""
        if outputs is not None and not self._model.streams:
            self._fitting.outputs(outputs, inputs)

    def _batches(self, samples: Any) -> Iterator[list[Any]]:
        """The inputs of each call: each sample at each size; of zeros as many sizes as there is time and memory for."""
        if self._samples is not None:
            for inputs in self._fitted(samples):
                yield from (self._of_size(inputs, size) for size in self._sizes)
            return
        began = last = self._clock()
        peak = _peak_bytes()
        for size in self._sizes:
            if self._note is not None:
                return
            now, grown = self._clock(), _peak_bytes() - peak
            # The next batch takes up to twice as long, and as much, as the one before.
            if now - began + 2 * (now - last) > self._limit_s or 2 * grown > _ZEROS_BYTES:
                spent = f"{now - began:.1f} s and {grown >> 20} MiB"
                self._note = f"the warm-up with zeros ended after {spent}, before batches of {size} rows"
                return
            last = now
            zeros = [
                _zeros(tensor, self._blanks.get(tensor.name, b""), batch_axis=self._signature.batch_axis)
                for tensor in self._signature.inputs
            ]
            yield self._of_size(zeros, size)

    def _fitted(self, samples: Any) -> Iterator[list[Any]]:
        """The samples that `warm_up` gave, as inputs in the order of the signature. Raises LoadError."""
        for sample in samples if isinstance(samples, list) else [] if samples is None else [samples]:
            by_name = isinstance(sample, Mapping)
            args = () if by_name else sample if isinstance(sample, tuple) else (sample,)
            try:
                inputs = self._fitting.inputs(
                    in_order(self._name, self._signature.inputs, args, sample if by_name else {})
                )
            except SamovarError as error:
                raise LoadError(f"a sample of warm_up does not fit: {error.message}", error.next_step) from error
            if self._signature.batch_axis and any(not len(array) for array in inputs):
                raise LoadError("a sample of warm_up has no rows", "give it at least one")
            yield inputs

    def _of_size(self, inputs: Sequence[Any], size: int) -> list[Any]:
        """Inputs of so many rows: those of a sample, over and over again."""
        import numpy as np

        if self._signature.batch_axis:
            inputs = [array[np.arange(size) % len(array)] for array in inputs]
        return self._fitting.inputs(inputs)

    @contextmanager
    def _told(self, inputs: Sequence[Any]) -> Iterator[None]:
        """Say of what goes wrong with these inputs that it was the warm-up."""
        try:
            yield
        except BaseException as error:
            rows = f" in a batch of {len(inputs[0])}" if self._signature.batch_axis and inputs else ""
            if isinstance(error, SamovarError):
                what, cure = error.message, error.next_step
            else:
                what = f"{type(error).__name__}: {text_of(error)}".removesuffix(": ")
                cure = place_in(self._path, error) or "its traceback shows where"
            if self._samples is not None:
                raise LoadError(f"a sample of warm_up{rows} failed: {what}", f"{cure}, {_OFF}") from error
            self._note = (
                f"the warm-up with zeros{rows} failed: {what}; requests are served, "
                f"give samples in a method warm_up {_OFF}"
            )


def batch_sizes(most: int) -> list[int]:
    """The powers of two up to `most`, and `most` itself."""
    sizes = [1 << power for power in range(most.bit_length())]
    return sizes if sizes[-1] == most else [*sizes, most]


def _zeros(tensor: TensorSpec, blank: bytes, *, batch_axis: bool) -> Any:
    import numpy as np

    from samovar.codecs.elements import dtype_of

    assert tensor.datatype is not None
    assert tensor.dims is not None
    shape = (1,) * batch_axis + tuple(1 if length == -1 else length for length in tensor.dims)
    return np.full(shape, blank if tensor.datatype is Datatype.BYTES else 0, dtype_of(tensor.datatype))


def _peak_bytes() -> int:
    """The most memory that this process has had; what getrusage(2) says is the engine's where that had more."""
    status = Path("/proc/self/status").read_text("ascii", "replace")
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) << 10


async def _result(samples: Awaitable[Any]) -> Any:
    return await samples
