"""The blocking loop of a worker: calls and questions in, answers out, one at a time.

It costs least per call. The load of a model whose predict is async moves the worker into `samovar.worker.tasks`, for
good.
"""

from contextlib import closing

from samovar.context import Tag, running
from samovar.errors import InvalidInputError, OutputError, StepError, text_of, user_traceback
from samovar.service.steps import set_caller
from samovar.worker.channel import Ask, Call, Channel
from samovar.worker.questions import Instance, Questions, needs_event_loop
from samovar.worker.steps import EngineCaller

__all__ = ["Worker", "report"]


class Worker:
    """One worker process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._questions = Questions()
        self._caller = EngineCaller(channel)
        set_caller(self._caller)

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
            if instance.model.streams:
                _send_parts(call, instance)
            else:
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

        asyncio.run(run_tasks(self._channel, self._caller, self._questions, ask))


def _send_parts(call: Call, instance: Instance) -> None:
    """Send each part as the caller takes the ones before; one that nobody waits for is the last."""
    with closing(instance.model.predict(instance.codec.decode(call.inputs()))) as parts:
        for part in parts:
            encoded = instance.codec.encode(part)
            while not call.part(encoded):
                call.wait_for_credit()
                if call.cancelled:
                    break
            if call.cancelled:
                break
    call.finish([])


def report(call: Call, error: BaseException) -> None:
    """Answer a call with what went wrong."""
    if isinstance(error, StepError):
        call.fail(type(error).__name__, text_of(error), user_traceback(error), error.code)
    elif isinstance(error, InvalidInputError):
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
