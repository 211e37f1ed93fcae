"""Lines of user code are tagged with the requests on whose behalf they are written."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from samovar.worker.channel import Call
from samovar.worker.lines import Tag, TaggedStream, running


class Named:
    """As much of a call as a tag needs."""

    instance = 7

    def request_ids(self) -> list[str]:
        return ["a", "b"]


@pytest.fixture
def raw() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def stream(raw: io.BytesIO) -> Any:
    yield TaggedStream.over(io.TextIOWrapper(raw, encoding="ascii"))
    running.set(None)


def test_lines_outside_a_call_are_plain(stream: Any, raw: io.BytesIO) -> None:
    print("hello", "wörld", file=stream)
    assert raw.getvalue() == "hello wörld\n".encode()


def test_each_line_of_a_call_has_one_tag(stream: Any, raw: io.BytesIO) -> None:
    running.set(Tag(cast("Call", Named())))
    print("one", 1, file=stream)
    stream.writelines(["two\nthr", "ee\n"])
    print(file=stream)
    stream.write("")
    print("four", file=stream)
    assert (
        raw.getvalue()
        == b"\x1e7:a,b\x1fone 1\n\x1e7:a,b\x1ftwo\n\x1e7:a,b\x1fthree\n\x1e7:a,b\x1f\n\x1e7:a,b\x1ffour\n"
    )


def test_a_call_that_has_ended_tags_nothing(stream: Any, raw: io.BytesIO) -> None:
    tag = Tag(cast("Call", Named()))
    running.set(tag)
    tag.call = None
    print("late", file=stream)
    assert raw.getvalue() == b"late\n"


def test_user_text_does_not_pass_for_a_tag(stream: Any, raw: io.BytesIO) -> None:
    print("\x1efake\x1ftext", file=stream)
    assert raw.getvalue() == b"\x1e\x1f\x1efake\x1ftext\n"


def test_lines_of_threads_stay_whole(stream: Any, raw: io.BytesIO) -> None:
    stream.write("one ")
    with ThreadPoolExecutor(1) as other:
        other.submit(print, "another", file=stream).result()
    print("line", file=stream)
    assert raw.getvalue() == b"another\none line\n"


def test_a_begun_line_is_written_when_it_is_flushed_or_grows_long(stream: Any, raw: io.BytesIO) -> None:
    running.set(Tag(cast("Call", Named())))
    print("50 %", end="", file=stream, flush=True)
    assert raw.getvalue() == b"\x1e7:a,b\x1f50 %"
    print(" 100 %", file=stream)
    assert raw.getvalue() == b"\x1e7:a,b\x1f50 % 100 %\n"
    for _ in range(10_000):
        stream.write("more")
    stream.flush()
    assert raw.getvalue().endswith(b"\n\x1e7:a,b\x1f" + b"more" * 10_000)


def test_text_that_is_no_unicode_is_written_all_the_same(stream: Any, raw: io.BytesIO) -> None:
    print("\udc80", file=stream)
    assert raw.getvalue() == b"\\udc80\n"


def test_it_is_else_the_stream_behind_it(stream: Any) -> None:
    assert stream.encoding == "utf-8"
    assert stream.buffer is not None
    assert not stream.isatty()
