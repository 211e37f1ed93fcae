"""GGUF files, by llama-cpp-python where it is installed and by a fake of it elsewhere."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats.compared import Arrays, check_answers, check_damage, refusal
from samovar.runtimes import Question, runtime_for
from serving import Serve

FORMAT = "gguf"
PROMPT = {"prompt": np.array([b"tea from the samovar"], object)}
WIDTH, HEADS, INNER = 32, 2, 64
STRING, ARRAY = 8, 9


@pytest.fixture(autouse=True)
def llama(fake: Callable[[str, str], bool]) -> Any:
    """The package, or its fake."""
    fake("llama_cpp", "llama")
    import llama_cpp

    return llama_cpp


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key: str, value: Any) -> bytes:
    """A key of the metadata: a text, a whole number, a real number, or a list of one of these."""
    kinds = {str: (STRING, text), int: (4, lambda v: struct.pack("<I", v)), float: (6, lambda v: struct.pack("<f", v))}
    if isinstance(value, list):
        kind, pack = kinds[type(value[0])]
        return text(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(map(pack, value))
    kind, pack = kinds[type(value)]
    return text(key) + struct.pack("<I", kind) + pack(value)


def written(path: Path, version: int = 3, **more: Any) -> Path:
    """A llama of one layer with chance weights, whose tokens are bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    facts: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.context_length": 64,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256],
        **more,
    }
    square, layer = (WIDTH, WIDTH), "blk.0."
    shapes = {
        "token_embd.weight": (WIDTH, len(tokens)),
        "output_norm.weight": (WIDTH,),
        "output.weight": (WIDTH, len(tokens)),
        layer + "attn_norm.weight": (WIDTH,),
        **{f"{layer}attn_{part}.weight": square for part in ("q", "k", "v", "output")},
        layer + "ffn_norm.weight": (WIDTH,),
        layer + "ffn_gate.weight": (WIDTH, INNER),
        layer + "ffn_up.weight": (WIDTH, INNER),
        layer + "ffn_down.weight": (INNER, WIDTH),
    }
    chance = np.random.default_rng(0)
    head = b"GGUF" + struct.pack("<IQQ", version, len(shapes), len(facts))
    head += b"".join(entry(key, value) for key, value in facts.items())
    data = b""
    for name, shape in shapes.items():
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += chance.normal(scale=0.1, size=shape).astype("<f4").tobytes()
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def completed(llama: Any, path: Path, most: int) -> Callable[[Arrays], Arrays]:
    """What the package itself answers."""
    model = llama.Llama(str(path), n_ctx=64, verbose=False)

    def expected(arrays: Arrays) -> Arrays:
        (prompt,) = arrays["prompt"]
        found = model.create_completion(prompt.decode(), max_tokens=most, temperature=0.0)
        return {"text": np.array([found["choices"][0]["text"].encode()], object)}

    return expected


def test_a_prompt_is_completed(serve: Serve, tmp_path: Path, llama: Any) -> None:
    path = written(tmp_path / "tiny.gguf")
    served = check_answers(
        serve,
        path,
        PROMPT,
        completed(llama, path, 3),
        options="runtime_options = { max_new_tokens = 3 }",
        has_batches=False,
    )
    described = served.http.get("/v2/models/tiny").json()
    assert described["inputs"] == [{"name": "prompt", "datatype": "BYTES", "shape": [1]}]
    assert described["outputs"] == [{"name": "text", "datatype": "BYTES", "shape": [1]}]
    long = {"prompt": np.array([b"word " * 400], object)}
    refused = served.http.infer("tiny", long)
    assert refused.status == 400
    assert b"tokens" in refused.body


def test_the_parts_of_a_stream_make_the_same_text(serve: Serve, tmp_path: Path, llama: Any) -> None:
    path = written(tmp_path / "tiny.gguf")
    config = tmp_path / "settings.toml"
    config.write_text("[models.tiny]\nruntime_options = { stream = true, max_new_tokens = 8 }\n")
    served = serve(str(path), options=["--config", str(config)], timeout_s=120.0)
    found = served.http.infer("tiny", PROMPT).arrays()["text"]
    (whole,) = completed(llama, path, 8)(PROMPT)["text"]
    assert len(found) > 1
    assert b"".join(piece if isinstance(piece, bytes) else piece.encode() for piece in found) == whole


def test_the_metadata_is_read_from_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "named-otherwise", **{"llama.context_length": 32_768})
    (described,) = runtime_for(path).inspect(Question(path))
    assert described["source"]["runtime_options"]["context"] == 4_096
    told = "tiny of the architecture llama, trained on 32768 tokens"
    assert told in described["source"]["read_from"]


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    check_damage(serve, written(tmp_path / "tiny.gguf"), "GGUF")


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    for size in (4, 8, 23, 24, 60, 500, 3_000, len(content) // 3):
        path.write_bytes(content[:size])
        with pytest.raises(Exception, match="damaged GGUF file"):
            runtime_for(path).inspect(Question(path))


def test_another_version_and_what_llama_cpp_refuses_are_told(serve: Serve, tmp_path: Path) -> None:
    assert "GGUF version 1" in refusal(serve, written(tmp_path / "old.gguf", version=1))
    config = tmp_path / "settings.toml"
    config.write_text("[models.tiny]\nruntime_options = { max_tokens = 3 }\n")
    told = refusal(serve, written(tmp_path / "tiny.gguf"), "--config", str(config))
    assert 'unknown runtime option "max_tokens"' in told
