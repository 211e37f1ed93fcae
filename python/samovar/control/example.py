"""A request to try, with curl, with `samovar infer`, from Python: what the start and `samovar inspect` give."""

import json
import re
import shlex
from keyword import iskeyword
from math import prod
from typing import Any

from samovar.errors import TargetError
from samovar.types import Datatype, Signature, TensorSpec

__all__ = ["curl_line", "infer_line", "python_lines", "sample", "service_line"]

_MAX_JSON_ELEMENTS = 64
_NOT_IN_JSON = frozenset({Datatype.FP16, Datatype.BF16})
_PHOTO = "photo.jpg"
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="  # a gray PNG


def curl_line(model: dict[str, Any], url: str, socket: str | None, version: str | None = None) -> str:
    """A shell command that calls the model with one row of zeros; small inputs as JSON, others as bytes.

    `model` has the keys of a description, `socket` is the path of a Unix socket that curl must use, `version` the one
    to name.
    """
    signature = Signature.from_json(model)
    inputs = _examples(model)
    is_small = sum(prod(tensor["shape"]) for tensor in inputs) <= _MAX_JSON_ELEMENTS
    curl, request = _curl(model, url, socket, version)
    if is_small and not any(spec.datatype in _NOT_IN_JSON for spec in signature.inputs):
        return _with_json(curl, json.dumps({**request, **_small(model, inputs)}, ensure_ascii=False))
    return _binary(curl, request, inputs)


def sample(model: dict[str, Any], url: str, file: str, version: str | None = None) -> tuple[dict[str, Any], str]:
    """A request with one row of made-up values: its JSON, and a shell command that sends it from this file.

    Raises TargetError for a datatype that JSON does not carry.
    """
    curl, request = _curl(model, url, None, version)
    for spec in Signature.from_json(model).inputs:
        if spec.datatype in _NOT_IN_JSON:
            raise TargetError(
                f'input "{spec.name}" of model "{model["name"]}" is {spec.datatype.name}, which JSON does not carry',
                "leave --sample out: the lines that are printed then send bytes",
            )
    from random import Random  # 5 ms that the start of an engine does without

    random = Random(0)  # noqa: S311 - the same numbers each time
    inputs = _examples(model)
    for tensor in inputs:
        is_float = tensor["datatype"].startswith("FP")
        made_up = (
            [round(random.random(), 4) for _ in range(prod(tensor["shape"]))] if is_float else _values(model, tensor)
        )
        tensor["data"] = made_up
    return {**request, **_request(model, inputs)}, _with_json(curl, f"@{file}")


def service_line(service: dict[str, Any], url: str, socket: str | None) -> str:
    """A shell command that calls a method of a service; files in it are yet to be found. `service` as `model` above."""
    curl = ["curl", *(["--unix-socket", shlex.quote(socket)] if socket else [])]
    request = service["source"].get("request")
    if request is None:
        mounted = service["service"]["mounts"][1:]
        page = f"{mounted[0].rstrip('/')}/" if mounted else f"/{service['name']}/openapi.json"
        return " ".join([*curl, f"{url}{page}"])
    address, method = url + request["path"], request["method"]
    if method not in ("GET", "POST"):
        curl += ["-X", method]
    if method in ("GET", "DELETE"):
        return " ".join([*curl, shlex.quote(address + _query(request["fields"]))])
    return " ".join([*curl, address, *_body(request["fields"], request["files"])])


def infer_line(model: dict[str, Any], version: str | None = None) -> str:
    """A shell command that calls the model by `samovar infer`; large inputs come from files yet to be made."""
    words = ["samovar", "infer", model["name"], *([] if version is None else ["--version", version])]
    inputs = _examples(model)
    if _columns(model, inputs):
        return " ".join(
            [*words, "--records", shlex.quote(json.dumps(_small(model, inputs)["records"], ensure_ascii=False))]
        )
    for tensor in inputs:
        is_small = prod(tensor["shape"]) <= _MAX_JSON_ELEMENTS
        value = (
            json.dumps(_nested(tensor, _value(model, tensor)), ensure_ascii=False)
            if is_small
            else f"@{tensor['name']}.npy"
        )
        if _is_image(model, tensor):
            value = f"@{_PHOTO}"
        words += ["--input", shlex.quote(f"{tensor['name']}={value}")]
    return " ".join(words)


def python_lines(model: dict[str, Any], place: str) -> list[str]:
    """A program that calls the model in its own process; `place` is what `samovar.load` takes."""
    inputs = _examples(model)
    values = [_photos(tensor) if _is_image(model, tensor) else _array(model, tensor) for tensor in inputs]
    if all(tensor["name"].isidentifier() and not iskeyword(tensor["name"]) for tensor in inputs):
        values = [f"{tensor['name']}={value}" for tensor, value in zip(inputs, values, strict=True)]
    imports = ["ml_dtypes"] if any("ml_dtypes" in value for value in values) else []
    return [
        *(f"import {module}" for module in imports),
        *(["import numpy as np"] if any("np." in value for value in values) else []),
        "import samovar",
        f"model = samovar.load({json.dumps(place, ensure_ascii=False)})",
        f"print(model.predict({', '.join(values)}))",
    ]


def _curl(model: dict[str, Any], url: str, socket: str | None, version: str | None) -> tuple[list[str], dict[str, Any]]:
    """The words of a command up to the body, and what stands in that besides the inputs."""
    curl = ["curl", *(["--unix-socket", shlex.quote(socket)] if socket else [])]
    curl.append(f"{url}/v2/models/{model['name']}{'' if version is None else f'/versions/{version}'}/infer")
    if any(spec.datatype in _NOT_IN_JSON for spec in Signature.from_json(model).outputs):
        return [*curl, "--output", "answer.bin"], {"parameters": {"binary_data_output": True}}
    return curl, {}


def _with_json(curl: list[str], body: str) -> str:
    return " ".join([*curl, "-H", "'Content-Type: application/json'", "-d", shlex.quote(body)])


def _small(model: dict[str, Any], inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """A request of the same value everywhere."""
    return _request(model, [{**tensor, "data": _values(model, tensor)} for tensor in inputs])


def _request(model: dict[str, Any], inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row, by column name where the model has names."""
    columns = _columns(model, inputs)
    if not columns:
        return {"inputs": inputs}
    values = [value for tensor in inputs for value in tensor["data"]]
    return {"records": [dict(zip(columns, values, strict=True))]}


def _columns(model: dict[str, Any], inputs: list[dict[str, Any]]) -> list[str]:
    """The name of each value of a row, of a table with few enough of them; else none."""
    columns = model["source"].get("columns", [])
    if columns and (len(inputs) > 1 or len(inputs[0]["shape"]) == 1):
        columns = [tensor["name"] for tensor in inputs]  # the others are not used
    count = sum(prod(tensor["shape"]) for tensor in inputs)
    return columns if len(columns) == count <= _MAX_JSON_ELEMENTS else []


def _query(fields: dict[str, Any]) -> str:
    from urllib.parse import urlencode  # 3 ms that engines without services do without

    query = urlencode({name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()})
    return f"?{query}" if query else ""


def _body(fields: dict[str, Any], files: list[str]) -> list[str]:
    """A form where there are files, else JSON."""
    if not files:
        return ["-H", "'Content-Type: application/json'", "-d", shlex.quote(json.dumps(fields))]
    forms = [f"{name}=@{name}" for name in files]
    forms += [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in fields.items()]
    return [word for form in forms for word in ("-F", shlex.quote(form))]


def _examples(model: dict[str, Any]) -> list[dict[str, Any]]:
    signature = Signature.from_json(model)
    return [_example(spec, batch_axis=signature.batch_axis) for spec in signature.inputs]


def _is_image(model: dict[str, Any], tensor: dict[str, Any]) -> bool:
    """Whether an input takes files of images, which `preprocess` in samovar.toml makes of one of pixels."""
    settings = model["source"].get("preprocess")
    return settings is not None and model["inputs"][settings["place"]]["name"] == tensor["name"]


def _photos(tensor: dict[str, Any]) -> str:
    """An expression."""
    photo = f'open("{_PHOTO}", "rb").read()'
    return str(_nested(tensor, photo)).replace(repr(photo), photo)


def _nested(tensor: dict[str, Any], value: Any) -> Any:
    """Nested lists of one value."""
    for length in reversed(tensor["shape"]):
        value = [value] * length
    return value


def _array(model: dict[str, Any], tensor: dict[str, Any]) -> str:
    """An expression."""
    datatype, shape, value = Datatype[tensor["datatype"]], tuple(tensor["shape"]), _value(model, tensor)
    if datatype is Datatype.BYTES:
        text = json.dumps(value, ensure_ascii=False)
        return f"np.full({shape}, {f'b{text}' if value.isascii() else f'{text}.encode()'}, object)"
    kind = f"{'ml_dtypes' if datatype is Datatype.BF16 else 'np'}.{datatype.numpy_name}"
    return f"np.full({shape}, {value}, {kind})" if tensor["name"] in _known(model) else f"np.zeros({shape}, {kind})"


def _binary(curl: list[str], request: dict[str, Any], inputs: list[dict[str, Any]]) -> str:
    """The same in the binary tensor extension: a JSON header, then zeros."""
    sizes = [_bytes(tensor) for tensor in inputs]
    tensors = [{**tensor, "parameters": {"binary_data_size": size}} for tensor, size in zip(inputs, sizes, strict=True)]
    header = json.dumps({**request, "inputs": tensors})
    words = [*curl, "-H", "'Content-Type: application/octet-stream'"]
    words += ["-H", f"'Inference-Header-Content-Length: {len(header.encode())}'", "--data-binary", "@-"]
    return f"(printf %s {shlex.quote(header)}; head -c {sum(sizes)} /dev/zero) | {' '.join(words)}"


def _example(spec: TensorSpec, *, batch_axis: bool) -> dict[str, Any]:
    """A tensor without its data; one axis of FP32 where the file says nothing."""
    shape = [1] * batch_axis + [1 if dim < 0 else dim for dim in (spec.dims if spec.dims is not None else (-1,))]
    return {"name": spec.name, "datatype": (spec.datatype or Datatype.FP32).name, "shape": shape}


def _values(model: dict[str, Any], tensor: dict[str, Any]) -> list[Any]:
    return [_PIXEL if _is_image(model, tensor) else _value(model, tensor)] * prod(tensor["shape"])


def _known(model: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = model["source"].get("examples", {})
    return found


def _value(model: dict[str, Any], tensor: dict[str, Any]) -> Any:
    """What the file is known to take, or a value that most models do."""
    if tensor["name"] in _known(model):
        return _known(model)[tensor["name"]]
    if tensor["datatype"].startswith(("FP", "BF")):
        return 0.5
    return {"BOOL": False, "BYTES": "text"}.get(tensor["datatype"], 0)


def _bytes(tensor: dict[str, Any]) -> int:
    datatype = tensor["datatype"]
    bits = re.sub("[A-Z]", "", datatype) or {"BOOL": 8, "BYTES": 32}[datatype]  # of an empty text: its length
    return int(prod(tensor["shape"])) * int(bits) // 8
