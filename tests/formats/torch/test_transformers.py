"""Transformers folders: every task beside the framework itself, streams, code and pickles."""

import base64
import io
import json
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from formats.compared import Arrays, check_answers
from formats.torch.folders import (
    SIZES,
    TEXTS,
    check_batches,
    check_damaged,
    generating,
    inspect,
    load,
    picture,
    saved,
)
from samovar.errors import ConfigError, InvalidInputError, TargetError, UnsafeFormatError
from samovar.runtimes import runtime_for
from serving import Serve

FORMAT = "transformers"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


def scored(found: list[list[dict[str, Any]]], labels: list[str]) -> Arrays:
    """What a pipeline tells of each label, as arrays."""
    scores = [{entry["label"]: entry["score"] for entry in entries} for entries in found]
    return {
        "label": np.array([max(entry, key=lambda label: entry[label]) for entry in scores], object),
        "scores": np.array([[entry[label] for label in labels] for entry in scores], np.float32),
    }


def plain(texts: np.ndarray) -> list[str]:
    return [text.decode() for text in texts]


def test_texts_are_classified(serve: Serve, tmp_path: Path) -> None:
    labels = ["cold", "warm", "hot"]
    saved(tmp_path / "warmth", "BertForSequenceClassification", id2label=dict(enumerate(labels)))
    pipeline = transformers.pipeline("text-classification", model=tmp_path / "warmth", top_k=None)
    served = check_answers(
        serve, tmp_path / "warmth", {"text": TEXTS}, lambda some: scored(pipeline(plain(some["text"])), labels)
    )
    assert served.http.get("/v2/models/warmth").json()["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [-1]}
    ]


def test_several_labels_may_fit(tmp_path: Path) -> None:
    saved(tmp_path / "tags", "BertForSequenceClassification", num_labels=2, problem_type="multi_label_classification")
    pipeline = transformers.pipeline("text-classification", model=tmp_path / "tags", top_k=None)
    labels = ["LABEL_0", "LABEL_1"]
    model = load(FORMAT, tmp_path / "tags")
    check_batches(model, {"text": TEXTS}, lambda some: scored(pipeline(plain(some["text"])), labels))


@pytest.mark.parametrize("aggregation", ["simple", "none"])
def test_entities_are_json(tmp_path: Path, aggregation: str) -> None:
    saved(tmp_path / "entities", "BertForTokenClassification", num_labels=3)
    pipeline = transformers.pipeline(
        "token-classification", model=tmp_path / "entities", aggregation_strategy=aggregation
    )
    model = load(FORMAT, tmp_path / "entities", aggregation=aggregation)
    for count in (1, 3, len(TEXTS)):
        for text, wanted in zip(model.predict([TEXTS[:count]])[0], pipeline(plain(TEXTS[:count])), strict=True):
            found = json.loads(text)
            assert [entry["word"] for entry in found] == [entry["word"] for entry in wanted]
            # Numbers differ in their last digits from one size of batch to another.
            scores = pytest.approx([float(entry["score"]) for entry in wanted], rel=1e-4)
            assert [entry["score"] for entry in found] == scores


def test_questions_are_answered_from_contexts_of_any_length(tmp_path: Path) -> None:
    model, words = saved(tmp_path / "asked", "BertForQuestionAnswering")
    inputs = {
        "question": np.array([b"who drank tea", b"where is the cat", b"who sang"], object),
        "context": np.array(
            [b"the cat drank warm tea", b"the cat slept", b"rain fell " * 40 + b"the kettle sang"], object
        ),
    }

    def expected(some: Arrays) -> Arrays:
        found = list(map(best, plain(some["question"]), plain(some["context"])))
        return {
            "answer": np.array([found[0] for found in found], object),
            "score": np.array([found[1] for found in found], np.float32),
            "start": np.array([found[2] for found in found]),
            "end": np.array([found[3] for found in found]),
        }

    def best(question: str, context: str) -> tuple[str, float, int, int]:
        """Every pair of places in every window, one by one."""
        windows = words(
            question,
            context,
            truncation="only_second",
            max_length=64,
            stride=16,
            padding="max_length",
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        found = ("", 0.0, 0, 0)
        for index, offsets in enumerate(windows["offset_mapping"].tolist()):
            with torch.no_grad():
                logits = model(**{name: windows[name][index : index + 1] for name in words.model_input_names})
            places = [place for place, part in enumerate(windows.sequence_ids(index)) if part == 1]
            starts, ends = logits.start_logits[0, places].softmax(0), logits.end_logits[0, places].softmax(0)
            for first, start in enumerate(places):
                for last, end in enumerate(places):
                    score = float(starts[first] * ends[last])
                    if first <= last < first + 15 and score > found[1]:
                        span = offsets[start][0], offsets[end][1]
                        found = context[slice(*span)], score, *span
        return found

    check_batches(load(FORMAT, tmp_path / "asked", stride=16), inputs, expected)


def test_masks_are_filled(tmp_path: Path) -> None:
    saved(tmp_path / "masks", "BertForMaskedLM")
    pipeline = transformers.pipeline("fill-mask", model=tmp_path / "masks", top_k=2)
    texts = np.array([b"the [MASK] sang", b"[MASK] tea is hot and warm", b"a [MASK]"], object)

    def expected(some: Arrays) -> Arrays:
        found = [pipeline(text) for text in plain(some["text"])]
        return {
            "tokens": np.array([[entry["token_str"] for entry in entries] for entries in found], object),
            "scores": np.array([[entry["score"] for entry in entries] for entries in found], np.float32),
        }

    model = load(FORMAT, tmp_path / "masks", top_k=2)
    check_batches(model, {"text": texts}, expected)
    with pytest.raises(InvalidInputError, match=r"has 0 times \[MASK\], not once"):
        model.predict([TEXTS[:1]])


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [
        ("mean", lambda state: state.mean(0)),
        ("first", lambda state: state[0]),
        ("last", lambda state: state[-1]),
        ("max", lambda state: state.max(0).values),
    ],
)
def test_texts_are_embedded(tmp_path: Path, pooling: str, pooled: Any) -> None:
    model, words = saved(tmp_path / "vectors", "BertModel")

    def expected(some: Arrays) -> Arrays:
        with torch.no_grad():
            states = [model(**words(text, return_tensors="pt")).last_hidden_state[0] for text in plain(some["text"])]
        return {"embedding": torch.nn.functional.normalize(torch.stack(list(map(pooled, states)))).numpy()}

    check_batches(load(FORMAT, tmp_path / "vectors", pooling=pooling, normalise=True), {"text": TEXTS}, expected)


def test_images_are_classified(tmp_path: Path) -> None:
    torch.manual_seed(3)
    sizes = {**SIZES, "image_size": 16, "patch_size": 8, "num_labels": 2, "initializer_range": 0.5}
    transformers.ViTForImageClassification(transformers.ViTConfig(**sizes)).save_pretrained(tmp_path / "pictures")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "pictures")
    pipeline = transformers.pipeline("image-classification", model=tmp_path / "pictures", top_k=2)
    images = np.array([picture(seed) for seed in range(4)], object)

    def expected(some: Arrays) -> Arrays:
        opened = [transformers.image_utils.load_image(image_of(content)) for content in some["image"]]
        return scored(pipeline(opened), ["LABEL_0", "LABEL_1"])

    model = load(FORMAT, tmp_path / "pictures")
    check_batches(model, {"image": images}, expected, tolerance=1e-4)
    with pytest.raises(InvalidInputError, match=r"element 0 .*no image"):
        model.predict([TEXTS[:1]])
    large = io.BytesIO()
    Image.new("L", (10_000, 6_000)).save(large, "PNG")
    with pytest.raises(InvalidInputError, match=r"element 0 of input \"image\": the image is 10000 x 6000, more than"):
        model.predict([np.array([large.getvalue()], object)])
    text = np.array([base64.b64encode(images[0])], object)  # as JSON carries it
    np.testing.assert_array_equal(model.predict([text])[1], model.predict([images[:1]])[1])


def image_of(content: bytes) -> Any:
    return Image.open(io.BytesIO(content))


def generated(model: Any, words: Any, prompts: list[str]) -> list[str]:
    """Greedily, one prompt after the other."""
    found = []
    for prompt in prompts:
        tokens = words(prompt, return_tensors="pt")["input_ids"]
        output = model.generate(tokens, max_new_tokens=8, do_sample=False, pad_token_id=0)
        found.append(words.decode(output[0, tokens.shape[-1] :], skip_special_tokens=True))
    return found


def test_prompts_are_continued_in_a_batch(serve: Serve, tmp_path: Path) -> None:
    model, words = generating(tmp_path / "tales")

    def expected(some: Arrays) -> Arrays:
        return {"text": np.array(generated(model, words, plain(some["prompt"])), object)}

    options = 'runtime_options = { max_new_tokens = 8, decoding = "greedy" }'
    served = check_answers(serve, tmp_path / "tales", {"prompt": TEXTS}, expected, options=options)
    answer = served.http.infer("tales", {"prompt": np.array([b"tea " * 60], object)})
    assert answer.status == 400
    assert "60 tokens" in answer.body.decode()
    sampling = load(FORMAT, tmp_path / "tales", max_new_tokens=8, decoding="sampling", temperature=1e-5)
    check_batches(sampling, {"prompt": TEXTS}, expected)
    for wrong in ({"max_new_tokens": 0}, {"temperature": 0.0}, {"decoding": "poetry"}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}.* wants"):
            inspect(FORMAT, tmp_path / "tales", **wrong)


def test_the_parts_of_a_stream_make_the_same_text(serve: Serve, tmp_path: Path) -> None:
    model, words = generating(tmp_path / "tales")
    served = check_answers(
        serve,
        tmp_path / "tales",
        {"prompt": TEXTS[1:2]},
        lambda some: {"text": pieces(model, words, plain(some["prompt"]))},
        options="runtime_options = { max_new_tokens = 8, stream = true }",
        has_batches=False,
    )
    assert served.http.infer("tales", {"prompt": TEXTS[:2]}).status == 400


def pieces(model: Any, words: Any, prompts: list[str]) -> np.ndarray:
    """A text as a streamer of transformers cuts it."""
    streamer = transformers.TextIteratorStreamer(words, skip_prompt=True, skip_special_tokens=True)
    tokens = words(prompts, return_tensors="pt")["input_ids"]
    model.generate(tokens, max_new_tokens=8, do_sample=False, pad_token_id=0, streamer=streamer)
    return np.array([part for part in streamer if part], object)


def test_who_closes_a_stream_ends_the_generation(tmp_path: Path) -> None:
    generating(tmp_path / "tales")
    before = threading.active_count()
    stream = load(FORMAT, tmp_path / "tales", stream=True, max_new_tokens=40).predict([TEXTS[1:2]])
    next(stream)
    stream.close()
    assert threading.active_count() == before


TELLER = """
from collections.abc import AsyncIterator

import samovar


@samovar.service
class Teller:
    tales = samovar.use("tales", runtime_options={"stream": True, "max_new_tokens": 90_000})

    @samovar.api
    async def tell(self, prompt: str) -> AsyncIterator[str]:
        async for part in self.tales.predict([prompt.encode()]):
            yield part[0].decode()
"""


def test_a_service_streams_a_text_until_its_client_hangs_up(serve: Serve, tmp_path: Path) -> None:
    """90,000 tokens take minutes: who has the first of them, or the turn of the next, has not waited for the last."""
    model, words = generating(tmp_path / "tales", positions=100_000)
    endless = transformers.GenerationConfig(min_new_tokens=90_000, bos_token_id=0, eos_token_id=0)
    endless.save_pretrained(tmp_path / "tales")
    (tmp_path / "teller.py").write_text(TELLER)
    tokens = words("tea is", return_tensors="pt")["input_ids"]
    found = model.generate(tokens, max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0)
    wanted = words.decode(found[0, 2:])
    served = serve(str(tmp_path / "teller.py"), timeout_s=120.0)
    for accept, before in (("application/x-ndjson", b""), ("text/event-stream", b"data: ")):
        connection = served.http.connect()
        headers = {"Content-Type": "application/json", "Accept": accept}
        connection.request("POST", "/teller/tell", b'{"prompt": "tea is"}', headers)
        answer = connection.getresponse()
        lines = (line.removeprefix(before) for line in answer if line.strip())
        text = "".join(json.loads(line) for line in islice(lines, 5))
        assert text.split() == wanted.split()[:5]
        answer.close()
        connection.close()


def check_made(folder: Path, model: Any, words: Any) -> None:
    """A folder of both makes of texts, in any batch, what the model makes of each alone."""
    model.save_pretrained(folder)
    words.save_pretrained(folder)

    def expected(some: Arrays) -> Arrays:
        found = [
            model.generate(**words(text, return_tensors="pt", return_token_type_ids=False), max_new_tokens=6)[0]
            for text in plain(some["prompt"])
        ]
        return {"text": np.array([words.decode(tokens, skip_special_tokens=True) for tokens in found], object)}

    check_batches(load(FORMAT, folder, max_new_tokens=6), {"prompt": TEXTS}, expected)


def test_texts_are_made_into_texts(tmp_path: Path) -> None:
    _, words = generating(tmp_path / "gpt")
    torch.manual_seed(4)
    config = transformers.T5Config(
        vocab_size=len(words),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        initializer_factor=3.0,
    )
    check_made(tmp_path / "translated", transformers.T5ForConditionalGeneration(config).eval(), words)


def test_a_folder_that_says_no_task_wants_it_declared(tmp_path: Path) -> None:
    saved(tmp_path / "quiet", "BertForPreTraining")
    with pytest.raises(TargetError, match=r"BertForPreTraining; .* task = \"feature-extraction\""):
        inspect(FORMAT, tmp_path / "quiet")
    masked = load(FORMAT, tmp_path / "quiet", task="fill-mask")
    assert len(masked.predict([np.array([b"a [MASK]"], object)])) == 2
    with pytest.raises(TargetError, match="qa_outputs"):
        load(FORMAT, tmp_path / "quiet", task="question-answering")
    with pytest.raises(TargetError, match="those are: text-classification"):
        inspect(FORMAT, tmp_path / "quiet", task="poetry")


def test_an_encoder_with_places_pads_behind_the_text(tmp_path: Path) -> None:
    _, words = generating(tmp_path / "gpt")
    sizes: dict[str, Any] = {
        f"{part}_{size}": n
        for part in ("encoder", "decoder")
        for size, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    torch.manual_seed(5)
    config = transformers.BartConfig(
        vocab_size=len(words),
        d_model=16,
        max_position_embeddings=64,
        init_std=0.5,
        **sizes,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    check_made(tmp_path / "told", transformers.BartForConditionalGeneration(config).eval(), words)


def test_what_is_no_whole_model_of_texts_is_told(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    seeing = {**small, "image_size": 16, "patch_size": 8}
    listening = {f"{part}_{size}": 2 for part in ("encoder", "decoder") for size in ("layers", "attention_heads")}
    models = {
        "seeing": transformers.ViTModel(transformers.ViTConfig(**seeing)),
        "both": transformers.CLIPModel(transformers.CLIPConfig(text_config=small, vision_config=seeing)),
        "listening": transformers.WhisperForConditionalGeneration(
            transformers.WhisperConfig(vocab_size=30, d_model=16, **listening, pad_token_id=0)
        ),
    }
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        fault = rf"its architectures are {type(model).__name__}; where its task .* write a Python class"
        with pytest.raises(TargetError, match=fault):
            inspect(FORMAT, tmp_path / name)
    saved(tmp_path / "silent", "BertModel")
    for file in (tmp_path / "silent").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(TargetError, match=r"silent has no tokenizer: .*; put tokenizer\.json there"):
        load(FORMAT, tmp_path / "silent")
    (tmp_path / "adapter").mkdir()
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "tea/base"}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(TargetError, match=r"adapter is an adapter \(peft\) for tea/base, no whole model; merge"):
        inspect(runtime_name(tmp_path / "adapter"), tmp_path / "adapter")


def runtime_name(folder: Path) -> str:
    return runtime_for(folder).__name__.rpartition(".")[2]


CODE = """
from pathlib import Path
import transformers

Path({note!r}).touch()

class TeaConfig(transformers.BertConfig):
    model_type = "tea"

class TeaModel(transformers.BertForSequenceClassification):
    config_class = TeaConfig
"""


def test_code_beside_the_weights_runs_only_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "home"))
    model, words = saved(tmp_path / "tea", "BertForSequenceClassification", num_labels=2)
    config = json.loads((tmp_path / "tea" / "config.json").read_text())
    classes = {"AutoConfig": "tea.TeaConfig", "AutoModelForSequenceClassification": "tea.TeaModel"}
    (tmp_path / "tea" / "config.json").write_text(json.dumps({**config, "model_type": "tea", "auto_map": classes}))
    (tmp_path / "tea" / "tea.py").write_text(CODE.format(note=str(tmp_path / "run")))
    with pytest.raises(UnsafeFormatError, match=r"unsafe_format: .* --trust tea"):
        inspect(FORMAT, tmp_path / "tea")
    assert not (tmp_path / "run").exists()

    def expected(some: Arrays) -> Arrays:
        with torch.no_grad():
            scores = model(**words(plain(some["text"]), padding=True, return_tensors="pt")).logits.softmax(-1)
        return {"label": np.array([f"LABEL_{place}" for place in scores.argmax(-1)], object), "scores": scores.numpy()}

    check_batches(load(FORMAT, tmp_path / "tea", trust=True), {"text": TEXTS}, expected)
    assert (tmp_path / "run").exists()


class Malicious:
    """Its pickle leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_weights_are_read_only_where_they_are_trusted(tmp_path: Path) -> None:
    model, words = saved(tmp_path / "old", "BertModel")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save({"weight": Malicious(tmp_path / "run")}, tmp_path / "old" / "pytorch_model.bin")
    with pytest.raises(UnsafeFormatError, match=r"unsafe_format: .* save_pretrained"):
        inspect(FORMAT, tmp_path / "old")
    assert not (tmp_path / "run").exists()
    torch.save(model.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    assert inspect(FORMAT, tmp_path / "old", trust=True)["source"]["trusted"]
    found = load(FORMAT, tmp_path / "old", trust=True, pooling="first").predict([TEXTS[:1]])[0]
    with torch.no_grad():
        states = model(**words(plain(TEXTS[:1]), return_tensors="pt")).last_hidden_state
    np.testing.assert_allclose(found, states[:, 0], rtol=1e-5, atol=1e-5)


def test_damaged_folders_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    saved(tmp_path / "whole", "BertModel")
    check_damaged(serve, tmp_path / "whole", "model.safetensors", "config.json")


def test_the_type_of_numbers_is_an_option(tmp_path: Path) -> None:
    model, words = saved(tmp_path / "halves", "BertModel")
    loaded = load(FORMAT, tmp_path / "halves", dtype="bfloat16", pooling="first")
    with torch.no_grad():
        states = model.to(torch.bfloat16)(**words(plain(TEXTS), padding=True, return_tensors="pt")).last_hidden_state
    np.testing.assert_array_equal(loaded.predict([TEXTS])[0], states[:, 0].float().numpy())
