"""`samovar.load`: a model in this process, without an engine."""

from collections import namedtuple
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Self

from samovar.codecs.fitting import Fitting, shape_text
from samovar.config import Configuration, ServerConfig
from samovar.errors import InputError, TargetError
from samovar.repository.settings import options_of, question_of
from samovar.repository.sources import Source, all_sources
from samovar.repository.targets import parse_target
from samovar.runtimes import LoadedModel, runtime_for, runtime_named
from samovar.types import Signature, TensorSpec

__all__ = ["LocalModel", "load"]


def load(target: str | Path) -> "LocalModel":
    """The one model of a file, of a class (`"app.py:Stn"`), or of a folder with one version.

    A samovar.toml beside the file counts, as for an engine. Raises TargetError, ConfigError or LoadError.
    """
    source = _source(str(target))
    configuration = Configuration(ServerConfig())
    models = runtime_for(source.path).inspect(question_of(source, configuration))
    if len(models) > 1:
        classes = ", ".join(f"{source.path.name}:{model['source']['class']}" for model in models)
        raise TargetError(f"{source} has {len(models)} models", f"name one: {classes}")
    return LocalModel({**models[0], "options": options_of(source, models[0], configuration)})


class LocalModel:
    """A model in this process; `signature` says what it takes and gives.

    Use it in a `with` block, or call `close`.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.version: str = spec["version"]
        self.signature = Signature.from_json(spec)
        self._runtime: str = spec["runtime"]
        self._fitting = Fitting(self.name, self.signature, writable=spec["options"]["writable_inputs"])
        self._results = _results([output.name for output in self.signature.outputs])
        self._loop = _Loop() if spec["source"].get("is_async") else None
        self._model: LoadedModel | None = runtime_named(self._runtime).load(spec)
        self._wait(self._model.start())

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """One call, with the inputs by position or name: one output is its array, several are a tuple with their names.

        Lists and numbers get the declared dtype; an array must have it, and is not written to. Raises InputError for
        what does not fit the signature, OutputError for a result that does not, and whatever the model raises.
        """
        if self._model is None:
            raise InputError(f'model "{self.name}" is closed', "load it again")
        inputs = self._fitting.inputs(self._in_order(args, kwargs))
        outputs = self._fitting.outputs(self._wait(self._model.predict(inputs)), inputs)
        return outputs[0] if len(outputs) == 1 else self._results(*outputs)

    def close(self) -> None:
        """Unload the model. Raises LoadError where its own unload does."""
        model, self._model = self._model, None
        try:
            if model is not None:
                self._wait(model.close())
        finally:
            if self._loop is not None:
                self._loop.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        inputs, outputs = (
            ", ".join(map(self._shown, tensors)) for tensors in (self.signature.inputs, self.signature.outputs)
        )
        return f'<model "{self.name}" ({self._runtime}): {inputs} -> {outputs}>'

    def _shown(self, spec: TensorSpec) -> str:
        datatype = "?" if spec.datatype is None else spec.datatype.name
        return f"{spec.name} {datatype} {shape_text(spec, batch_axis=self.signature.batch_axis)}"

    def _in_order(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """The values in the order of the signature, each exactly once."""
        names = [spec.name for spec in self.signature.inputs]
        shown = ", ".join(names) or "none"
        if len(args) > len(names):
            raise InputError(f'model "{self.name}" takes {len(names)} inputs, got {len(args)}', f"they are: {shown}")
        given = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                raise InputError(f'model "{self.name}" has no input "{name}"', f"its inputs are: {shown}")
            if name in given:
                raise InputError(
                    f'input "{name}" of model "{self.name}" is given twice', "by position or by name, not both"
                )
            given[name] = value
        missing = [name for name in names if name not in given]
        if missing:
            raise InputError(f'input "{missing[0]}" of model "{self.name}" is missing', f"its inputs are: {shown}")
        return [given[name] for name in names]

    def _wait(self, result: Any) -> Any:
        return result if self._loop is None or not isinstance(result, Awaitable) else self._loop.run(result)


class _Loop:
    """An event loop in a thread of its own: the caller may be in one already, as every notebook is."""

    def __init__(self) -> None:
        import asyncio
        import threading

        self._asyncio = asyncio
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="samovar-load", daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Its result."""

        async def wait() -> Any:
            return await awaitable

        return self._asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def end(self) -> None:
        """End the thread; a second time nothing happens."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _source(target: str) -> Source:
    sources = all_sources([parse_target(target)])
    if len(sources) != 1:
        files = ", ".join(str(source.path) for source in sources[:3]) or "none"
        raise TargetError(f'"{target}" has {len(sources)} model files', f"name the file of one: {files}")
    if sources[0].fault is not None:
        raise sources[0].fault
    return sources[0]


def _results(names: Sequence[str]) -> Any:
    """A named tuple; `results["scores:0"]` finds what no attribute can be called."""
    fields: Any = namedtuple("Results", names, rename=True)  # type: ignore[misc]  # noqa: PYI024 - known at run time only

    class Results(fields):
        __slots__ = ()

        def __getitem__(self, key: Any) -> Any:
            if isinstance(key, str) and key not in names:
                raise KeyError(key)
            return super().__getitem__(names.index(key) if isinstance(key, str) else key)

    return Results
