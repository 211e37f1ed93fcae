"""The blocking loop of a worker: calls and questions in, answers out, one at a time.

It costs least per call. The load of a model whose predict is async moves the worker into `samovar.worker.tasks`, for
good.
"""

from samovar.errors import InvalidInputError, OutputError, text_of, user_traceback
from samovar.worker.channel import Ask, Call, Channel
from samovar.worker.lines import Tag, running
from samovar.worker.questions import Questions, needs_event_loop

__all__ = ["Worker", "report"]


class Worker:
    """One worker process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._questions = Questions()

    def run(self) -> None:
        """Answer the engine until it wants this process to end."""
        while self._step():
            pass

    def _step(self) -> bool:
        """Take one message; its own function, so that nothing of a call is referenced while the next is awaited."""
        message = self._channel.receive()
        if message is None:
            return False
        if not hasattr(message, "verb"):
            self._run_call(message)
        elif needs_event_loop(message):
            self._run_tasks(message)
            return False
        else:
            self._answer(message)
        return True

    def _run_call(self, call: Call) -> None:
        tag = Tag(call)
        running.set(tag)
        try:
            instance = self._questions.instances[call.instance]
            call.finish(instance.codec.encode(instance.model.predict(instance.codec.decode(call.inputs()))))
        except BaseException as error:  # noqa: BLE001 - whatever user code raises, sys.exit() included, is an answer
            report(call, error)
        tag.call = None
        running.set(None)

    def _answer(self, ask: Ask) -> None:
        rest = self._questions.answer(ask)
        if rest is not None:
            import asyncio

            asyncio.run(rest)

    def _run_tasks(self, ask: Ask) -> None:
        import asyncio

        from samovar.worker.tasks import run_tasks

        asyncio.run(run_tasks(self._channel, self._questions, ask))


def report(call: Call, error: BaseException) -> None:
    """Answer a call with what went wrong."""
    if isinstance(error, InvalidInputError):
        call.refuse_input(text_of(error))
    elif isinstance(error, OutputError):
        call.refuse_output(text_of(error))
    else:
        call.fail(type(error).__name__, _with_cure(error), user_traceback(error))


def _with_cure(error: BaseException) -> str:
    """The text of an exception; where numpy refuses to write into an input, with what to do about that."""
    text = text_of(error)
    if isinstance(error, ValueError) and text.endswith(" is read-only"):
        return (
            f"{text}; inputs cannot be written: x = x + 1 instead of x += 1, or writable_inputs=True in @samovar.model"
        )
    return text
