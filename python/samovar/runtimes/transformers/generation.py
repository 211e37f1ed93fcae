"""Text that a model generates: several prompts in one call, or one prompt whose text streams.

The settings of a generation: https://huggingface.co/docs/transformers/main_classes/text_generation
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Pieces
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

from samovar.errors import ConfigError, InvalidInputError
from samovar.runtimes.hubs import json_of, text_array, text_list
from samovar.runtimes.transformers.parts import Parts

__all__ = ["Generator", "check_generation", "generation_options"]

_PROMPT = "prompt"
_NEW_TOKENS = 256  # what the pipelines of transformers set where a folder does not say
_AS_SAVED, _GREEDY, _SAMPLING = "as saved", "greedy", "sampling"


def generation_options(folder: Path) -> dict[str, Any]:
    """The options of a folder with their defaults, which its generation_config.json may set."""
    saved = json_of(folder, "generation_config.json")
    return {
        "stream": False,
        "max_new_tokens": saved.get("max_new_tokens") or _NEW_TOKENS,
        "decoding": (_AS_SAVED, _GREEDY, _SAMPLING),
        "temperature": float(saved.get("temperature") or 1.0),
    }


def check_generation(parts: Parts) -> None:
    """Refuse options that generate nothing. Raises ConfigError."""
    for name in ("max_new_tokens", "temperature"):
        if parts.options[name] <= 0:
            raise ConfigError(
                f'runtime option "{name}" of {parts.path.name} is {parts.options[name]}', "it wants more than 0"
            )


class Generator:
    """A model that continues prompts, or answers them where it has an encoder.

    `predict` gives the texts of a batch, or, if it `streams`, a generator of the pieces of one text; to close that
    ends the generation with its next token.
    """

    is_async = False
    is_user_code = False

    def __init__(self, parts: Parts) -> None:
        self.streams: bool = parts.options["stream"]
        # None: a text of a large model takes seconds, in each size of batch.
        self.samples: Callable[[], Any] | None = list
        self._parts = parts
        self._tokenizer = parts.processor
        self._has_encoder = bool(parts.config.is_encoder_decoder)
        if not self._has_encoder:
            self._tokenizer.padding_side = "left"  # what is generated stands behind the prompt
        self._settings = _settings(parts)
        self._predict = parts.without_gradients(self._generated)

    def start(self) -> None:
        """There is nothing left to do."""

    def close(self) -> None:
        """The model ends with its last reference."""

    def predict(self, inputs: Sequence[Any]) -> Any:
        """Run one call on an array of prompts. Raises InvalidInputError for one that is too long."""
        prompts = text_list(_PROMPT, inputs[0])
        return self._pieces(prompts) if self.streams else [text_array(self._predict(prompts))]

    def _generated(self, prompts: list[str]) -> list[str]:
        tokens, settings = self._prepared(prompts)
        found = self._parts.model.generate(**tokens, **settings)
        start = 0 if self._has_encoder else tokens["input_ids"].shape[-1]
        return list(self._tokenizer.batch_decode(found[:, start:], skip_special_tokens=True))

    def _prepared(self, prompts: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tokens, and settings under which prompt and answer are no longer than the model allows."""
        tokens = self._parts.tokens(prompts, truncation=self._has_encoder)
        device = self._parts.model.device
        wanted = {name: tokens[name].to(device) for name in ("input_ids", "attention_mask")}
        lengths = wanted["attention_mask"].sum(-1).tolist()
        if min(lengths) == 0:
            raise InvalidInputError(f'element {lengths.index(0)} of input "{_PROMPT}" has no tokens', "send some text")
        most = None if self._has_encoder else self._parts.most_tokens
        if most is None:
            return wanted, self._settings
        if max(lengths) >= most:
            raise InvalidInputError(
                f'element {lengths.index(max(lengths))} of input "{_PROMPT}" has {max(lengths)} tokens',
                f"the model takes {most} with those that it generates",
            )
        left = most - max(lengths)
        return wanted, {**self._settings, "max_new_tokens": min(left, self._settings["max_new_tokens"])}

    def _pieces(self, prompts: list[str]) -> Pieces[list[Any], None, None]:
        """The text as it comes: transformers pushes it, from a thread of its own."""
        with closing(_Stream(self._parts, *self._prepared(prompts), skip_prompt=not self._has_encoder)) as stream:
            for piece in stream.pieces():
                yield [text_array([piece])]


class _Stream:
    """One generation in a thread; to close it waits for the token that is under way."""

    def __init__(self, parts: Parts, tokens: dict[str, Any], settings: dict[str, Any], *, skip_prompt: bool) -> None:
        import transformers

        self._ended = Event()
        self._streamer = transformers.TextIteratorStreamer(
            parts.processor, skip_prompt=skip_prompt, skip_special_tokens=True
        )
        stops = transformers.StoppingCriteriaList([self._stops])
        settings = {**tokens, **settings, "streamer": self._streamer, "stopping_criteria": stops}
        self._thread = Thread(target=self._run, args=(parts.without_gradients(parts.model.generate), settings))
        self._thread.start()

    def _run(self, generate: Callable[..., Any], settings: dict[str, Any]) -> None:
        try:
            generate(**settings)
        except BaseException as error:  # noqa: BLE001 - whoever iterates raises it
            self._streamer.text_queue.put(error)

    def _stops(self, tokens: Any, _: Any, **__: Any) -> Any:
        import torch

        return torch.full((len(tokens),), self._ended.is_set(), device=tokens.device)

    def pieces(self) -> Iterator[str]:
        """The text as it comes. Raises what the generation raises."""
        for piece in self._streamer:
            if isinstance(piece, BaseException):
                raise piece
            if piece:
                yield piece

    def close(self) -> None:
        """End the generation."""
        self._ended.set()
        self._thread.join()


def _settings(parts: Parts) -> dict[str, Any]:
    """What is said to `generate` beside what the folder says to it."""
    options = parts.options
    settings: dict[str, Any] = {"max_new_tokens": options["max_new_tokens"]}
    if parts.processor.pad_token_id is not None:
        settings["pad_token_id"] = parts.processor.pad_token_id
    if options["decoding"] != _AS_SAVED:
        settings["do_sample"] = options["decoding"] == _SAMPLING
    if options["decoding"] == _SAMPLING:
        settings["temperature"] = float(options["temperature"])
    return settings
