"""The Open Inference Protocol, which Triton and Samovar both speak: JSON, binary tensors over HTTP, gRPC."""

import json
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from benchmarks.peers.base import Peer, Running
from benchmarks.work import Answer, Inputs, Request, Work, as_json

DATATYPES = {"float32": "FP32", "float64": "FP64", "uint8": "UINT8", "int64": "INT64"}
DTYPES = {datatype: np.dtype(name) for name, datatype in DATATYPES.items()}
METHOD = "/inference.GRPCInferenceService/ModelInfer"
HEADER = "Inference-Header-Content-Length"


def request(model: str, form: str, array: np.ndarray, name: str = "x") -> Request:
    """One input, in this form."""
    tensor: dict[str, Any] = {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape)}
    path = f"/v2/models/{model}/infer"
    if form == "json":
        return Request(path, as_json({"inputs": [{**tensor, "data": array.ravel().tolist()}]}))
    if form == "binary":
        tensor["parameters"] = {"binary_data_size": array.nbytes}
        head = as_json({"inputs": [tensor], "parameters": {"binary_data_output": True}})
        headers = {"Content-Type": "application/octet-stream", HEADER: str(len(head))}
        return Request(path, head + array.tobytes(), headers)
    inference = _messages()
    message = inference.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()])
    message.inputs.add(**tensor)
    return Request(METHOD, framed(message.SerializeToString()), {"Content-Type": "application/grpc", "TE": "trailers"})


def read(form: str, answer: Answer) -> np.ndarray:
    """The first output of an answer."""
    if form == "grpc":
        reply = _messages().ModelInferResponse.FromString(answer.body[5:])
        output = reply.outputs[0]
        return np.frombuffer(reply.raw_output_contents[0], DTYPES[output.datatype]).reshape(tuple(output.shape))
    size = int(answer.headers.get(HEADER, len(answer.body)))
    tensor = json.loads(answer.body[:size])["outputs"][0]
    dtype = DTYPES[tensor["datatype"]]
    data = np.frombuffer(answer.body[size:], dtype) if form == "binary" else np.array(tensor["data"], dtype)
    return data.reshape(tensor["shape"])


class OipPeer(Peer):
    """A peer whose models are reached by this protocol, each under the name of its work."""

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        return request(work.name, form, inputs)

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        del work
        return read(form, answer)

    def exchange(self, running: Running, form: str, request: Request) -> Answer | None:
        """See Peer."""
        if form != "grpc":
            return super().exchange(running, form, request)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{running.ports.grpc}", options) as channel:
            method = channel.unary_unary(request.path, lambda message: message, lambda message: message)
            try:
                return Answer(framed(method(request.body[5:], timeout=60)))
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    raise httpx.ConnectError(str(error)) from error
                return None


def framed(message: bytes) -> bytes:
    """A message of gRPC, not compressed."""
    return struct.pack(">BI", 0, len(message)) + message


@cache
def _messages() -> Any:
    sys.path.append(str(Path(__file__).parents[2] / "proto"))  # where grpc.protos looks
    return grpc.protos("inference.proto")
