"""What samovar.toml says of one model: its options, and what its file may not say of its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from samovar.config.options import MODEL_OPTIONS, SERVICE_OPTIONS, check_options, close_match
from samovar.errors import ConfigError
from samovar.types import Datatype

__all__ = [
    "BATCH",
    "MAX_RANK",
    "MODEL_KEYS",
    "Declared",
    "DeclaredTensor",
    "check_service_options",
    "read_declared",
]

BATCH = "batch"
MAX_RANK = 16
_TENSOR_LISTS = ("inputs", "outputs")
MODEL_KEYS = (*MODEL_OPTIONS, *_TENSOR_LISTS, "batch_axis", "runtime", "runtime_options", "preprocess", "trust")
_SINGLE = ("inputs", "outputs", "batch_axis", "runtime", "trust")
_TENSOR_KEYS = ("name", "datatype", "shape")
_EXAMPLE = '{ name = "x", datatype = "FP32", shape = ["batch", 3] }'


@dataclass(frozen=True)
class DeclaredTensor:
    """One input or output; None is "not said".

    `shape` has the batch axis too, as "batch" in the first place; another name, or -1, is an axis of any length.
    """

    name: str
    datatype: Datatype | None = None
    shape: tuple[int | str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The table that `read_declared` reads."""
        datatype = None if self.datatype is None else self.datatype.name
        shape = None if self.shape is None else list(self.shape)
        table = {"name": self.name, "datatype": datatype, "shape": shape}
        return {key: value for key, value in table.items() if value is not None}


@dataclass(frozen=True)
class Declared:
    """The keys of one model: options by the names of ModelConfig; None is "not said"."""

    options: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[DeclaredTensor, ...] | None = None
    outputs: tuple[DeclaredTensor, ...] | None = None
    batch_axis: bool | None = None
    runtime: str | None = None
    """Of which format the file is, or by what it is to be run."""
    runtime_options: dict[str, Any] = field(default_factory=dict)
    """What that runtime alone knows."""
    preprocess: dict[str, Any] | bool | None = None
    """How images become an input; True is "as the file beside the model says"."""
    trust: bool | None = None
    """May the file run code when it is loaded."""

    def over(self, lower: "Declared") -> "Declared":
        """Both; where both say something, this one."""
        said = {key: value for key in _SINGLE if (value := getattr(self, key)) is not None}
        options = {**lower.options, **self.options}
        runtime_options = {**lower.runtime_options, **self.runtime_options}
        preprocess = _both(self.preprocess, lower.preprocess)
        return replace(lower, options=options, runtime_options=runtime_options, preprocess=preprocess, **said)

    def to_json(self) -> dict[str, Any]:
        """The table that `read_declared` reads."""
        table = dict(self.options)
        for key in _TENSOR_LISTS:
            tensors = getattr(self, key)
            if tensors is not None:
                table[key] = [tensor.to_json() for tensor in tensors]
        if self.runtime_options:
            table["runtime_options"] = self.runtime_options
        return table | {
            key: value
            for key in ("batch_axis", "runtime", "preprocess", "trust")
            if (value := getattr(self, key)) is not None
        }


def read_declared(table: Mapping[str, Any], where: str) -> Declared:
    """The keys of one model; `where` ends the messages: `in samovar.toml`.

    Raises ConfigError that names the unknown key with its near match, or the value that does not fit.
    """
    for key in table:
        if key not in MODEL_KEYS:
            raise ConfigError(f'unknown setting "{key}" {where}', close_match(key, MODEL_KEYS))
    options = check_options({key: value for key, value in table.items() if key in MODEL_OPTIONS}, MODEL_OPTIONS, where)
    tensors = {key: _tensors(table, key, where) for key in _TENSOR_LISTS}
    return Declared(
        options,
        **tensors,
        batch_axis=_typed(table, "batch_axis", (bool,), "true or false", where),
        runtime=_typed(table, "runtime", (str,), "the name of one", where),
        runtime_options=_typed(table, "runtime_options", (dict,), "a table", where) or {},
        preprocess=_typed(table, "preprocess", (dict, bool), "a table, true or false", where),
        trust=_typed(table, "trust", (bool,), "true or false", where),
    )


def _both(upper: dict[str, Any] | bool | None, lower: dict[str, Any] | bool | None) -> dict[str, Any] | bool | None:
    """A table completes a table, and `true` takes the one below."""
    if isinstance(lower, dict):
        if isinstance(upper, dict):
            return {**lower, **upper}
        return False if upper is False else lower
    return lower if upper is None else upper


def _typed(table: Mapping[str, Any], key: str, kinds: tuple[type, ...], wanted: str, where: str) -> Any:
    value = table.get(key)
    if value is not None and type(value) not in kinds:
        raise ConfigError(f'setting "{key}" {where} is {value!r}', f"it wants {wanted}")
    return value


def check_service_options(where: str, declared: Declared) -> None:
    """Raise ConfigError for what can be said of models alone; `where` ends the message: `of service plates`."""
    for key in declared.to_json():
        if key not in SERVICE_OPTIONS:
            raise ConfigError(
                f'setting "{key}" {where} is one of models', f"a service has {', '.join(SERVICE_OPTIONS)}"
            )


def _tensors(table: Mapping[str, Any], key: str, where: str) -> tuple[DeclaredTensor, ...] | None:
    values = table.get(key)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ConfigError(f'setting "{key}" {where} is no list of tables', f"write {key} = [{_EXAMPLE}]")
    tensors = tuple(_tensor(value, key, where) for value in values)
    names = [tensor.name for tensor in tensors]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'setting "{key}" {where} has "{name}" twice', "each name stands for one tensor")
    return tensors


def _tensor(table: dict[str, Any], key: str, where: str) -> DeclaredTensor:
    for word in table:
        if word not in _TENSOR_KEYS:
            raise ConfigError(f'unknown key "{word}" in setting "{key}" {where}', close_match(word, _TENSOR_KEYS))
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f'setting "{key}" {where} has a tensor without a name', f"write for instance {_EXAMPLE}")
    place = f'of "{name}" in setting "{key}" {where}'
    return DeclaredTensor(name, _datatype(table.get("datatype"), place), _shape(table.get("shape"), place))


def _datatype(value: Any, place: str) -> Datatype | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in Datatype.__members__:
        near = close_match(str(value).upper(), Datatype.__members__)
        raise ConfigError(f"datatype {value!r} {place} is unknown", near)
    return Datatype[value]


def _shape(value: Any, place: str) -> tuple[int | str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(map(_is_axis, value)):
        raise ConfigError(
            f"shape {value!r} {place} is none", 'list a length for each axis, -1 or a name for any: ["batch", 3, -1]'
        )
    if len(value) > MAX_RANK:
        raise ConfigError(f"shape {place} has {len(value)} axes", f"an array may have {MAX_RANK}")
    if BATCH in value[1:]:
        raise ConfigError(
            f'shape {value!r} {place} has "{BATCH}" as axis {value.index(BATCH, 1)}', "only the first can be"
        )
    return tuple(value)


def _is_axis(value: Any) -> bool:
    is_length = isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 1 << 62
    return is_length or (isinstance(value, str) and value != "")
