"""Answers to questions: the likeliest span of a context, which is read in windows where it is long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from samovar.errors import InvalidInputError, TargetError
from samovar.runtimes.hubs import text_array, text_list
from samovar.runtimes.transformers.parts import Parts

__all__ = ["answers"]


@dataclass(frozen=True)
class _Span:
    score: float
    start: int
    end: int
    """Characters of the context."""


_NOTHING = _Span(0.0, 0, 0)


def answers(parts: Parts) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function from questions and contexts to the answers, their scores and places. Raises TargetError.

    The score is the product of the probabilities of start and end among the tokens of one window of the context.
    """
    tokenizer = parts.processor
    if not tokenizer.is_fast:
        raise TargetError(
            f"the tokenizer of {parts.path.name} does not know where its tokens stand in a text",
            "save it as a fast one: tokenizer.json",
        )
    settings: dict[str, Any] = {"return_offsets_mapping": True}
    if parts.most_tokens is not None:
        stride = min(parts.options["stride"], parts.most_tokens // 4)
        settings |= {"truncation": "only_second", "stride": stride, "return_overflowing_tokens": True}

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        questions, contexts = (text_list(name, inputs[name]) for name in ("question", "context"))
        _check_lengths(parts, questions)
        best = [_best_span(parts, question, text, settings) for question, text in zip(questions, contexts, strict=True)]
        return {
            "answer": text_array([text[span.start : span.end] for text, span in zip(contexts, best, strict=True)]),
            "score": np.array([span.score for span in best], np.float32),
            "start": np.array([span.start for span in best]),
            "end": np.array([span.end for span in best]),
        }

    return run


def _check_lengths(parts: Parts, questions: Sequence[str]) -> None:
    """Each window shall hold more of the context than it shares with the next. Raises InvalidInputError."""
    if parts.most_tokens is None:
        return
    for index, tokens in enumerate(parts.processor(questions, add_special_tokens=False)["input_ids"]):
        if len(tokens) > parts.most_tokens // 2:
            raise InvalidInputError(
                f'element {index} of input "question" has {len(tokens)} tokens', f"it may have {parts.most_tokens // 2}"
            )


def _best_span(parts: Parts, question: str, context: str, settings: dict[str, Any]) -> _Span:
    """The windows of one context are a batch; an empty context has no answer."""
    import torch

    found = parts.tokens([question], [context], **{**settings, "padding": True})
    offsets = found.pop("offset_mapping").tolist()
    is_context = torch.tensor([[place == 1 for place in found.sequence_ids(window)] for window in range(len(offsets))])
    logits = parts.forward(found)
    best = _NOTHING
    for window, places in enumerate(offsets):
        inside = is_context[window]
        if not inside.any():
            continue
        starts, ends = (
            values[window].float().masked_fill(~inside, float("-inf")).softmax(-1)
            for values in (logits.start_logits, logits.end_logits)
        )
        # Ends lie behind their starts, and not too far.
        scores = torch.outer(starts, ends).triu().tril(parts.options["max_answer_tokens"] - 1)
        score, place = scores.ravel().max(-1)
        start, end = divmod(int(place), len(places))
        if float(score) > best.score:
            best = _Span(float(score), places[start][0], places[end][1])
    return best
