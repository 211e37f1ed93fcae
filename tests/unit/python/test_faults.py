"""The driver of `make faults`: each way in which an answer can fail is seen, and what it says is on the page."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from benchmarks.faults import figures, own_rows, report, run, wanted
from benchmarks.faults.client import Ask, Client, parse
from benchmarks.measuring import OURS
from benchmarks.peers import checked_plain
from benchmarks.peers.samovar import PEER

Script = Callable[[int, list[float], asyncio.StreamWriter], Awaitable[None]]


def reply(numbers: list[float], status: int = 200, headers: str = "") -> bytes:
    """An answer of a model."""
    output = {"name": "output", "datatype": "FP64", "shape": [1, len(numbers)], "data": numbers}
    body = json.dumps({"model_name": "checked", "outputs": [output]}).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def right(row: list[float]) -> list[float]:
    """What the model answers to a row."""
    return [row[0], sum(row[3:]), 4711, 1]


def ask(script: Script, *asks: Ask) -> tuple[Ask, ...]:
    """Send these, one after the other, to a server that answers the nth request by the script."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                row = json.loads(await reader.readexactly(size))["inputs"][0]["data"]
                await script(len(seen), row, writer)
                seen.append(row[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def go() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, Client(PEER, server.sockets[0].getsockname()[1]) as client:
            for one in asks:
                await client.send(one)

    seen: list[float] = []
    asyncio.run(go())
    return asks


def always(answer: Callable[[list[float]], bytes]) -> Script:
    async def script(_: int, row: list[float], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(row))

    return script


def test_a_right_answer_tells_its_process_and_version() -> None:
    first, second = ask(always(lambda row: reply(right(row))), Ask(), Ask())
    assert (first.kind, second.kind, first.pid, first.mark) == ("ok", "ok", 4711, 1)
    assert first.due <= first.sent <= first.ended <= second.sent


@pytest.mark.parametrize(
    "answer",
    [
        lambda row: reply([row[0] + 1, *right(row)[1:]]),
        lambda row: reply([row[0], right(row)[1] + 1, 4711, 1]),
        lambda row: reply(right(row)[:2]),
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe{}",
    ],
    ids=["another's id", "another sum", "too short", "no tensor", "no text"],
)
def test_an_answer_that_is_not_the_request_s_own_is_wrong(answer: Callable[[list[float]], bytes]) -> None:
    assert ask(always(answer), Ask())[0].kind == "wrong"


def test_the_answer_of_a_neighbour_is_wrong() -> None:
    rows: list[list[float]] = []

    def swapped(row: list[float]) -> bytes:
        rows.append(row)
        return reply(right(rows[0]))

    assert [one.kind for one in ask(always(swapped), Ask(), Ask())] == ["ok", "wrong"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, "refused"), (503, "refused"), (504, "late"), (408, "late"), (500, "error"), (404, "error")],
)
def test_statuses_have_their_class(status: int, kind: str) -> None:
    (one,) = ask(always(lambda row: reply(right(row), status, "Retry-After: 1\r\n")), Ask())
    assert (one.kind, one.status, one.retry_after) == (kind, status, True)


@pytest.mark.parametrize("part", [0, 20, -1], ids=["nothing", "half a head", "all but a byte"])
def test_a_connection_that_ends_before_the_whole_answer_is_lost(part: int) -> None:
    async def cut(_: int, row: list[float], writer: asyncio.StreamWriter) -> None:
        writer.write(reply(right(row))[:part])
        writer.close()

    assert [one.kind for one in ask(cut, Ask(), Ask())] == ["lost", "lost"]


def test_what_does_not_come_in_time_is_lost_and_its_late_answer_nobody_else_s() -> None:
    async def first_never(number: int, row: list[float], writer: asyncio.StreamWriter) -> None:
        if number:
            writer.write(reply(right(row)))

    late, next_one = ask(first_never, Ask(patience_s=0.05), Ask())
    assert (late.kind, next_one.kind) == ("lost", "ok")
    assert late.took_s >= 0.05


def test_a_closed_port_is_unreachable() -> None:
    async def go() -> Ask:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
        async with Client(PEER, port) as client:
            return await client.send(Ask())

    assert asyncio.run(go()).kind == "unreachable"


@pytest.mark.parametrize("departure", ["fin", "rst"])
def test_a_client_that_goes_is_gone_and_not_lost(departure: str) -> None:
    async def never(_: int, row: list[float], writer: asyncio.StreamWriter) -> None:
        del row, writer

    (one,) = ask(never, Ask(leave_after_s=0.01, departure=departure))  # type: ignore[arg-type]
    assert one.kind == "gone"
    assert one.left >= one.sent + 0.01


def test_chunked_bodies_are_joined() -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\nHTTP/1.1"
    end = len(whole) - len(b"HTTP/1.1")
    for size in range(end):
        assert parse(bytearray(whole[:size])) is None
    found = parse(bytearray(whole))
    assert found is not None
    assert (found[0], found[1].body, found[2]) == (200, b"abcde", end)


def test_what_was_refused_after_it_had_begun_was_not_refused() -> None:
    first, second = Ask(kind="refused"), Ask(kind="refused")
    figures.settle([first, second], {first.id: [1.0]})
    assert (first.kind, second.kind) == ("error", "refused")


def piece(took_s: float) -> list[Ask]:
    return [Ask(due=0.0, ended=took_s, kind="ok")]


def test_a_ratio_is_that_of_pairs_and_has_an_interval() -> None:
    found = figures.p99_ratio([(piece(0.1), piece(0.2)), (piece(0.1), piece(0.8))])
    assert found["p99_ratio"] == pytest.approx(4)
    assert found["p99_ratio_low"] < 2
    assert found["p99_ratio_high"] > 8
    assert "p99_ratio_low" not in figures.p99_ratio([(piece(0.1), piece(0.2))])
    assert figures.p99_ratio([([], piece(0.2))]) == {"pairs": 1}, "nobody was answered"


def test_an_answer_of_a_version_that_had_gone_is_mixed() -> None:
    spans = {1: (0.0, 10.0), 2: (9.0, 99.0)}
    cases = {
        (1, 8.0, 8.1): True,
        (1, 9.9, 10.1): True,
        (1, 10.1, 10.2): False,
        (2, 8.0, 8.9): False,
        (3, 1.0, 2.0): False,
    }
    for (mark, sent, ended), fits in cases.items():
        assert own_rows._fits(Ask(mark=mark, sent=sent, ended=ended), spans) is fits


def test_the_model_tells_whose_answer_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setenv("RUNS_FILE", str(tmp_path / "runs"))
    one = Ask()
    got = checked_plain.run(np.array([[one.id, 0, 0, *one.numbers]], np.float64), 3)
    assert got[0].tolist()[:2] == [one.id, sum(one.numbers)]
    assert got[0, 3] == 3
    assert len((tmp_path / "runs").read_bytes()) == 16


def good() -> dict[str, dict[str, float]]:
    """Figures of every row that meet what is wanted."""
    return {
        row: {each.figure: each.most if each.most is not None else each.least or 0 for each in wanted.WANTED[row]}
        for row in wanted.WANTED
    }


def test_every_row_has_its_wants_and_a_safe_run_passes() -> None:
    assert [row.row for row in run.ROWS] == list(wanted.WANTED)
    run.check(run.ROWS, good())


@pytest.mark.parametrize("figure", sorted(wanted.SAFETY))
def test_what_is_unsafe_fails_the_command(figure: str) -> None:
    rows = [row for row in wanted.WANTED if figure in {each.figure for each in wanted.WANTED[row]}]
    assert rows
    for row in rows:
        found = good()
        found[row][figure] = 1
        with pytest.raises(SystemExit, match=f"{row}: {figure} is 1"):
            run.check(run.ROWS, found)
        del found[row][figure]
        with pytest.raises(SystemExit, match=f"{row} has no figure {figure}"):
            run.check(run.ROWS, found)


def test_a_figure_beyond_its_bound_is_told_as_such() -> None:
    ours = {"lost": 1, "detected_ms": 50, "p99_ratio": 2.0, "p99_ratio_low": 1.5, "p99_ratio_high": 2.5}
    rows: dict[str, report.Results] = {"kill": {"row": "kill", "figures": {OURS: ours}}}
    table = {line[1]: line[2:] for line in report.own_table(rows)[1:]}
    assert table["lost"] == ["1", "<= 0", "**no**"]
    assert table["death seen after, ms, worst"] == ["50", "<= 50", "yes"]
    assert table["p99 by p99 without kills"] == ["2.00 (1.50-2.50)", "<= 3", "yes"]


def test_the_chart_has_every_engine_and_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    found = {row: {"figures": {OURS: {name: 1.0}, "triton": {name: 2.0}}} for row, name, _ in report.PANELS}
    for name in ("a.svg", "b.svg"):
        report.draw(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    for row, name, _ in report.PANELS:
        assert name in {*(each.figure for each in wanted.WANTED[row]), *report.THEIRS[row]}


def test_the_page_has_what_the_results_say() -> None:
    found = {path.stem: json.loads(path.read_text()) for path in report.RESULTS.glob("*.json")}
    page = report.PAGE.read_text()
    assert set(found) <= set(wanted.WANTED)
    for name in ("faults", "faults-chart", "faults-machine", *(f"faults-{row}" for row in report.THEIRS)):
        assert f"<!-- bench {name} -->\n" in page
    for name, text in report.parts(found).items() if found else ():
        assert f"<!-- bench {name} -->\n{text}\n<!-- end -->" in page, name


def test_wrong_names_say_what_there_is() -> None:
    with pytest.raises(SystemExit, match='no row is called "kil"; there are kill, stall'):
        run._chosen("kil")
    with pytest.raises(SystemExit, match='no peer is called "tritn"; there are triton'):
        run._peers("tritn", run.FULL)


def test_the_peers_do_less_of_the_same() -> None:
    for scale in (run.FULL, run.QUICK, run.SMOKE):
        plan = run.plan_of(scale)
        assert run.scale_of(plan, OURS) == scale
        less = run.scale_of(plan, "triton")
        assert (less.name, less.piece_s) == (scale.name, scale.piece_s)
        assert less.pairs <= scale.pairs
