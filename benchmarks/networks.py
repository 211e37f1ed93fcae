"""ONNX files that workloads serve."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Shape = Sequence[str | int | None]


def write(
    path: Path, nodes: Sequence[NodeProto], shapes: tuple[Shape, Shape], weights: Sequence[TensorProto] = ()
) -> None:
    """Save a graph from the input `x` to the output `output`, both FP32, of these shapes."""
    x, output = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("x", "output"), shapes, strict=True)
    )
    graph = helper.make_graph(nodes, path.stem, [x], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_identity(path: Path) -> None:
    """FP32[batch, 16], unchanged."""
    write(path, [helper.make_node("Identity", ["x"], ["output"])], (["batch", 16], ["batch", 16]))


def write_cnn(path: Path, channels: int, blocks: int, side: int) -> None:
    """Residual blocks of 3 x 3 convolutions as in ResNet (He et al., 2015), random weights, mean over the picture."""
    rng = np.random.default_rng(1)
    nodes, weights = [], []

    def convolution(source: str, target: str, inputs: int) -> None:
        kernel = rng.standard_normal((channels, inputs, 3, 3)).astype(np.float32) * np.sqrt(2 / 9 / inputs)
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"{target}_kernel"))
        nodes.append(helper.make_node("Conv", [source, f"{target}_kernel"], [target], pads=[1, 1, 1, 1]))

    def relu(source: str, target: str) -> None:
        nodes.append(helper.make_node("Relu", [source], [target]))

    convolution("x", "stem", 3)
    relu("stem", "block0")
    for number in range(blocks):
        convolution(f"block{number}", f"first{number}", channels)
        relu(f"first{number}", f"middle{number}")
        convolution(f"middle{number}", f"second{number}", channels)
        nodes.append(helper.make_node("Add", [f"second{number}", f"block{number}"], [f"sum{number}"]))
        relu(f"sum{number}", f"block{number + 1}")
    nodes.append(helper.make_node("GlobalAveragePool", [f"block{blocks}"], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["output"]))
    write(path, nodes, (["batch", 3, side, side], ["batch", channels]), weights)
