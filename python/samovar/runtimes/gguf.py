"""Runtime of GGUF files, by llama-cpp-python: prompts in, text out, whole or as it comes.

The file says what it is before its weights: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from samovar.errors import InvalidInputError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, peek
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.tables import texts
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "llama_cpp")
ABOUT = About(
    "GGUF models",
    extra="gguf",
    recognised_by="first bytes GGUF",
    signature_from="prompt and text; architecture and context by the file's metadata",
    safety="safe",
    tested="against the API alone, unless llama-cpp-python is installed: its build takes ten minutes",
)

_MAGIC = b"GGUF"
_PROMPT, _TEXT = "prompt", "text"
# Of what the file was trained on, unless more is asked for: a token of context takes 0.5 MB at 7 B weights.
_MOST_CONTEXT = 4_096
_OPTIONS = {"context": 0, "max_new_tokens": 128, "temperature": 0.0, "stream": False, "gpu_layers": 0}
# gguf_type: the numbers; 8 is a string, 9 an array.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)


def recognise(path: Path) -> Sure:
    """Files that begin with GGUF."""
    if peek(path, len(_MAGIC)) == _MAGIC:
        return Sure.CERTAIN
    return Sure.NAME if path.suffix.lower() == ".gguf" else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a text model. Raises TargetError or ConfigError."""
    path = question.path
    facts = _facts(path)
    imported("llama_cpp", ABOUT)
    kind = str(facts.get("general.architecture", "unknown"))
    trained = int(facts.get(f"{kind}.context_length", _MOST_CONTEXT))
    options = runtime_options(question, _OPTIONS)
    options["context"] = options["context"] or min(trained, _MOST_CONTEXT)
    inputs = [FileTensor(_PROMPT, Datatype.BYTES, (1,))]
    outputs = [FileTensor(_TEXT, Datatype.BYTES, (-1 if options["stream"] else 1,))]
    signature = signature_of(path.name, inputs, outputs, question.declared)
    name = facts.get("general.name", path.stem)
    described = describe(
        question,
        "gguf",
        signature,
        question.declared.options,
        IMPORTS,
        read_from=f"the file's metadata: {name} of the architecture {kind}, trained on {trained} tokens of context",
        runtime_options=options,
    )
    return [{**described, "streams": options["stream"]}]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a model; its weights are mapped, and shared by all that map them. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    _facts(path)  # llama.cpp ends the process on some broken files
    options, threads = spec["source"]["runtime_options"], spec["options"]["threads"]
    llama = imported("llama_cpp", ABOUT)
    try:
        model = llama.Llama(
            str(path),
            n_ctx=options["context"],
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=options["gpu_layers"],
            use_mmap=True,
            verbose=False,
        )
    except Exception as error:
        raise TargetError(f"llama.cpp cannot load {path.name}: {text_of(error)}", "fetch the file again") from error
    pieces = _pieces(model, options)
    signature = Signature.from_json(spec)
    if options["stream"]:
        return _Streaming(signature, pieces)
    return FileModel(signature, lambda inputs: [_array("".join(pieces(inputs)))])


class _Streaming(FileModel):
    """Each piece of the text is a part of the answer."""

    streams = True

    def __init__(self, signature: Signature, pieces: Callable[[dict[str, Any]], Iterator[str]]) -> None:
        super().__init__(signature, lambda inputs: [_array("".join(pieces(inputs)))])
        self._pieces = pieces

    def predict(self, inputs: Sequence[Any]) -> Generator[Any, None, None]:
        """The pieces of one text; who closes the generator ends the generation after the piece at hand."""
        for piece in self._pieces(dict(zip(self._inputs, inputs, strict=True))):
            yield [_array(piece)]


def _pieces(model: Any, options: dict[str, Any]) -> Callable[[dict[str, Any]], Iterator[str]]:
    def pieces(inputs: dict[str, Any]) -> Iterator[str]:
        (prompt,) = texts(_PROMPT, inputs[_PROMPT]).tolist()
        size = len(model.tokenize(prompt.encode()))
        if size >= options["context"]:
            raise InvalidInputError(
                f"the prompt has {size} tokens, which leave no room for text in a context of {options['context']}",
                "shorten it, or set the runtime option context",
            )
        for chunk in model.create_completion(
            prompt, max_tokens=options["max_new_tokens"], temperature=options["temperature"], stream=True
        ):
            piece = chunk["choices"][0]["text"]
            if piece:
                yield piece

    return pieces


def _array(text: str) -> Any:
    import numpy as np

    return np.array([text.encode()], object)


def _facts(path: Path) -> dict[str, Any]:
    """The metadata of a file, without its lists. Raises TargetError for what is no whole GGUF file."""
    if peek(path, len(_MAGIC)) != _MAGIC:
        fault = foreign(path)
        message = fault.message if fault else f"{path.name} is something else"
        raise TargetError(f"{message}, no GGUF file", fault.next_step if fault else "give the file of the model")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _Reader(content).facts()
        except (struct.error, UnicodeDecodeError, KeyError, _CutError):
            raise TargetError(
                f"{path.name} is a damaged GGUF file of {len(content)} bytes", "fetch the file again"
            ) from None
        except ValueError as error:
            raise TargetError(f"{path.name} is {error}", "convert the model again") from None


class _CutError(Exception):
    """More is announced than there is."""


class _Reader:
    """Reads what stands before the weights, and where they end."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._place = len(_MAGIC)

    def facts(self) -> dict[str, Any]:
        version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"of GGUF version {version}, not {' or '.join(map(str, _VERSIONS))}")
        tensors, count = self._number("Q"), self._number("Q")
        facts = {self._string(): self._value(self._number("I")) for _ in range(count)}
        begins = [self._tensor() for _ in range(tensors)]
        align = int(facts.get("general.alignment", 32))
        data = -(-self._place // align) * align
        if begins and data + max(begins) >= len(self._content):
            raise _CutError
        return facts

    def _tensor(self) -> int:
        """Where the data of a tensor begins, counted from the first."""
        self._string()
        self._skip(8 * self._number("I"))
        self._number("I")
        begin: int = self._number("Q")
        return begin

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._number(_NUMBERS[kind])
        kind, length = self._number("I"), self._number("Q")
        if kind == _STRING:
            for _ in range(length):
                self._skip(self._number("Q"))
        elif kind == _ARRAY:
            raise KeyError(kind)  # nobody nests them
        else:
            self._skip(length * struct.calcsize(_NUMBERS[kind]))
        return None

    def _string(self) -> str:
        size = self._number("Q")
        begin = self._place
        self._skip(size)
        return self._content[begin : self._place].decode()

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._content, self._place)
        self._place += struct.calcsize(code)
        return value

    def _skip(self, size: int) -> None:
        if size > len(self._content) - self._place:
            raise _CutError
        self._place += size
