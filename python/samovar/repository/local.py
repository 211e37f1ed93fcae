"""`samovar.load`: a model in this process, without an engine; and what handles lead to where there is none."""

import json
from collections.abc import Awaitable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

from samovar import runtimes
from samovar.codecs.arguments import in_order
from samovar.codecs.fitting import Fitting, shape_text
from samovar.codecs.results import result_of
from samovar.config import Configuration, ServerConfig
from samovar.config.declared import Declared, read_declared
from samovar.errors import InputError, TargetError
from samovar.repository.runs import EventLoop, LocalRun
from samovar.repository.settings import options_of, question_of
from samovar.repository.sources import Source, all_sources
from samovar.repository.targets import parse_target
from samovar.runtimes import LoadedModel, Question, describe
from samovar.service.uses import Use, uses_of
from samovar.types import Signature, TensorSpec

__all__ = ["LocalModel", "load", "open_used"]


def load(target: str | Path, **settings: Any) -> "LocalModel":
    """The one model of a file, of a class (`"app.py:Stn"`), or of a folder with one version.

    `settings` are the keys of a model in samovar.toml (`inputs`, `outputs`, `batch_axis`, `runtime`, `runtime_options`,
    `preprocess`, `trust`, and the options of every model), with the same values: what they leave out is read from the
    file as ever. A samovar.toml beside the file counts, as for an engine, and they stand above it. Raises TargetError,
    ConfigError or LoadError.
    """
    return _load(str(target), read_declared(settings, "in samovar.load"))


def _load(target: str, declared: Declared) -> "LocalModel":
    source = _source(target, declared)
    configuration = Configuration(ServerConfig())
    described = describe(question_of(source, configuration))
    models = [model for model in described if model["service"] is None]
    if not models:
        raise _service_error(source, described[0])
    if len(models) > 1:
        classes = ", ".join(f"{source.path.name}:{model['source']['class']}" for model in models)
        raise TargetError(f"{source} has {len(models)} models", f"name one: {classes}")
    if source.name is None:  # a program says in its decorator what of a file is declared
        configuration = Configuration(ServerConfig(), {models[0]["name"]: declared})
    spec = {**models[0], "options": options_of(source, models[0], configuration)}
    return LocalModel(spec, runtimes.load(spec))


def open_used(used: Use) -> "LocalModel":
    """The model of a handle, one for all handles of this process. Raises TargetError where it is named only."""
    from samovar.runtimes.python.uses import place_of

    if isinstance(used.target, type):
        return _open_class(used.target)
    place = place_of(used)
    if place is None:
        raise TargetError(
            f'"{used.target}" is the name of a model in an engine, and this process is none of its workers',
            f"serve it (samovar.testing.serve), or put an object in its place: service.{used.attribute} = ...",
        )
    return _open_path(place, json.dumps(used.declared.to_json(), sort_keys=True))


@cache
def _open_class(cls: type) -> "LocalModel":
    """The class itself, wherever it is defined."""
    from samovar.runtimes.python.inspection import described_model
    from samovar.runtimes.python.loading import PythonModel

    model = described_model(Question(Path(cls.__module__)), cls.__name__, cls)
    configuration = Configuration(ServerConfig())
    options = configuration.model_options(model["name"], model["options"], batch_axis=model["batch_axis"])
    uses: dict[str, dict[str, Any]] = {attribute: {} for attribute in uses_of(cls)}  # each opens itself
    return LocalModel({**model, "options": options}, PythonModel(cls, model["name"], uses))


@cache
def _open_path(path: Path, declared: str) -> "LocalModel":
    return _load(str(path), read_declared(json.loads(declared), "in samovar.use"))


class LocalModel:
    """A model in this process; `signature` says what it takes and gives, `streams` whether it yields.

    Use it in a `with` block, or call `close`.
    """

    def __init__(self, spec: Mapping[str, Any], model: LoadedModel) -> None:
        self.name: str = spec["name"]
        self.version: str = spec["version"]
        self.signature = Signature.from_json(dict(spec))
        self.streams = model.streams
        self._runtime: str = spec["runtime"]
        self._fitting = Fitting(self.name, self.signature, writable=spec["options"]["writable_inputs"])
        self._outputs = [output.name for output in self.signature.outputs]
        self._loop = EventLoop() if model.is_async else None
        self._model: LoadedModel | None = model
        self._wait(model.start())

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """One call, with the inputs by position or name: one output is its array, several are a tuple with their names.

        Lists and numbers get the declared dtype; an array must have it, and is not written to. A model that streams
        gives an iterator of such results. Raises InputError for what does not fit the signature, OutputError for a
        result that does not, and whatever the model raises.
        """
        run = self.run(args, kwargs)
        return run.parts_sync() if self.streams else run.whole_sync()

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> LocalRun:
        """A call that is still to begin: what handles stand on. Raises InputError."""
        if self._model is None:
            raise InputError(f'model "{self.name}" is closed', "load it again")
        inputs = self._fitting.inputs(in_order(self.name, self.signature.inputs, args, kwargs))

        def finish(outputs: Sequence[Any]) -> Any:
            return result_of(self._outputs, self._fitting.outputs(outputs, inputs))

        return LocalRun(self._model, self._loop, inputs, finish)

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

    def _wait(self, hook: Awaitable[None] | None) -> None:
        """Wait for a load or unload; one that is async needs an event loop, also where predict is not."""
        if hook is None:
            return
        loop = self._loop or EventLoop()
        try:
            loop.run(hook)
        finally:
            if loop is not self._loop:
                loop.end()


def _service_error(source: Source, service: Mapping[str, Any]) -> TargetError:
    return TargetError(
        f'{source} has the service "{service["name"]}" and no model',
        f"make one of its class and call its methods: {service['source']['class']}().METHOD(...); or serve it",
    )


def _source(target: str, declared: Declared) -> Source:
    sources = all_sources([parse_target(target, declared)])
    if len(sources) != 1:
        files = ", ".join(str(source.path) for source in sources[:3]) or "none"
        raise TargetError(f'"{target}" has {len(sources)} model files', f"name the file of one: {files}")
    if sources[0].fault is not None:
        raise sources[0].fault
    return sources[0]
