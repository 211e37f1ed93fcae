"""Tiny folders as they come from a model hub: weights by chance, a vocabulary of a few words."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from formats.compared import Arrays, rows, same
from samovar.config.declared import read_declared
from samovar.runtimes import Question, runtime_named
from serving import Serve, Served

WORDS = "the kettle sang and cat slept rain fell to a warm tea is hot cold who where drank"
TEXTS = np.array(
    [b"the kettle sang", b"a warm cat slept and the rain fell", b"tea", b"hot tea is hot", b"cold", b"unknown words"],
    object,
)
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


def tokenizer() -> Any:
    """One token for each word."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL.values(), *WORDS.split()])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")],
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **SPECIAL)


def saved(folder: Path, kind: str, **settings: Any) -> tuple[Any, Any]:
    """A folder with a BERT of this class, its model and its tokenizer."""
    torch.manual_seed(1)
    words = tokenizer()
    config = transformers.BertConfig(vocab_size=len(words), initializer_range=0.5, **SIZES, **settings)
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model, words


def generating(folder: Path, positions: int = 48) -> tuple[Any, Any]:
    """A folder with a GPT-2 for texts up to a length, which adds no tokens of its own to a prompt."""
    torch.manual_seed(2)
    inner = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(["[END]", "[UNK]", *WORDS.split()])}, "[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="[END]", unk_token="[UNK]")
    config = transformers.GPT2Config(
        vocab_size=len(words),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=positions,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model, words


def picture(seed: int) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def check_damaged(serve: Serve, folder: Path, weights: str, settings: str) -> None:
    """Weights that are cut off, noise for weights, half of the settings: each is told of, and a neighbour is served."""
    noise = bytes(range(256)) * 8
    broken = {"cut": (weights, None), "noise": (weights, noise), "half": (settings, None)}
    for place, (name, content) in broken.items():
        shutil.copytree(folder, folder.parent / place)
        file = folder.parent / place / name
        whole = file.read_bytes()
        file.write_bytes(content or whole[: len(whole) // 2])
    served = serve(*(str(folder.parent / place) for place in broken), "echo.py:EchoFp32", timeout_s=120.0)
    assert served.http.get("/v2/models/echo_fp32/ready").status == 200
    told = [json.dumps(line) for line in served.errors(len(broken))]
    assert len(told) == len(broken), told
    for place, (name, _) in broken.items():
        assert any(f"/{place} cannot be served" in fault and Path(name).name in fault for fault in told), told


def check_images(
    serve: Serve,
    folder: Path,
    images: np.ndarray,
    expected: Callable[[Arrays], Arrays],
    *,
    arguments: Sequence[str] = (),
    counts: Sequence[int] = (1, 3),
) -> Served:
    """As `check_answers`, by the forms of both doors that carry bytes which are no text."""
    settings = folder.parent / "settings.toml"
    settings.write_text(f"[models.{folder.name}]\ninstances = 2\n")
    served = serve(str(folder), options=["--config", str(settings), *arguments], timeout_s=120.0)
    for count in counts:
        some = {"image": images[:count]}
        wanted = expected(some)
        for _ in range(2):  # each instance answers sooner or later
            same(served.http.infer_binary(folder.name, some).arrays(), wanted, 1e-4)
            same(served.grpc.infer(folder.name, some).arrays(), wanted, 1e-4)
            same(served.grpc.infer_binary(folder.name, some).arrays(), wanted, 1e-4)
    return served


def load(runtime: str, folder: Path, *, trust: bool = False, **options: Any) -> Any:
    """The model of a folder in this process."""
    described = inspect(runtime, folder, trust=trust, **options)
    return runtime_named(runtime).load({**described, "options": {"threads": 1, "concurrency": 1}})


def inspect(runtime: str, folder: Path, *, trust: bool = False, **options: Any) -> dict[str, Any]:
    """The description of a folder, as a worker gives it."""
    declared = read_declared({"runtime_options": options, "trust": trust}, "of a test")
    return runtime_named(runtime).inspect(Question(folder, declared=declared))[0]


def check_batches(model: Any, inputs: Arrays, expected: Callable[[Arrays], Arrays], *, tolerance: float = 1e-5) -> None:
    """As `check_answers`, without an engine."""
    for count in (1, 3, len(next(iter(inputs.values())))):
        some = rows(inputs, count)
        wanted = expected(some)
        same(dict(zip(wanted, model.predict(list(some.values())), strict=True)), wanted, tolerance)
