"""Tiny ONNX models, written by the tests that need them.

Each function writes one file and returns its path. `onnx` is imported late: other environments' suites do without.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Axis = int | str | None
Value = tuple[str, str, Sequence[Axis] | None]  # name, element type of onnx.TensorProto, shape
OPSET = 17


def write(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A model of `nodes` (of `node`); `weights` are constants by name."""
    import onnx
    from onnx import numpy_helper

    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = onnx.helper.make_graph(
        list(nodes), "graph", [_value(*value) for value in inputs], [_value(*value) for value in outputs], constants
    )
    opset = options.pop("opset", OPSET)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=options.pop("ir_version", 10)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path, **options)
    return path


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """One node of a graph."""
    import onnx

    return onnx.helper.make_node(operator, list(inputs), list(outputs), **attributes)


def echo(path: Path, kind: str = "FLOAT", shape: Sequence[Axis] | None = ("batch", "width")) -> Path:
    """`output` is `x`."""
    return write(path, [node("Identity", ["x"], ["output"])], [("x", kind, shape)], [("output", kind, shape)])


def scale(path: Path, factor: float = 2.0, width: Axis = 3, **options: Any) -> Path:
    """`output` is `x` times `factor`, rows of `width` along a batch axis."""
    import numpy as np

    shape: Sequence[Axis] = ("batch", width)
    weights = {"factor": np.array(factor, np.float32)}
    nodes = [node("Mul", ["x", "factor"], ["output"])]
    return write(path, nodes, [("x", "FLOAT", shape)], [("output", "FLOAT", shape)], weights, **options)


def sums(path: Path) -> Path:
    """Two inputs `a`, `b` and two outputs, `total` and `difference`, along a batch axis."""
    nodes = [node("Add", ["a", "b"], ["total"]), node("Sub", ["a", "b"], ["difference"])]
    shape = ("N", 3)
    inputs = [(name, "FLOAT", shape) for name in ("a", "b")]
    return write(path, nodes, inputs, [(name, "FLOAT", shape) for name in ("total", "difference")])


def lookup(path: Path) -> Path:
    """`output` is the entry of a table of three at each `index`; another index is a fault of the model at run time."""
    import numpy as np

    nodes = [node("Gather", ["table", "index"], ["output"])]
    weights = {"table": np.array([10, 20, 30], np.float32)}
    return write(path, nodes, [("index", "INT64", ("batch",))], [("output", "FLOAT", ("batch",))], weights)


def large(path: Path) -> Path:
    """`output` is `x` plus weights that stand in a file of their own beside the model."""
    import numpy as np

    weights = {"weights": np.arange(4_000, dtype=np.float32)}
    shape = ("batch", 4_000)
    return write(
        path,
        [node("Add", ["x", "weights"], ["output"])],
        [("x", "FLOAT", shape)],
        [("output", "FLOAT", shape)],
        weights,
        save_as_external_data=True,
        location=path.with_suffix(".weights").name,
    )


def _value(name: str, kind: str, shape: Sequence[Axis] | None) -> Any:
    import onnx

    return onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)
