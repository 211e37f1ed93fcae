"""The suite of benchmarks: what it says of samples, and that it asks everybody the same."""

import json
from pathlib import Path

import pytest
from benchmarks import charts, machine, margins, report, run
from benchmarks.measuring import OURS, Plan, Sample, summarise
from benchmarks.peers import nginx, oip
from benchmarks.peers.samovar import MODELS, decorated
from benchmarks.work import ECHO, IMAGE, Answer
from benchmarks.workloads import WORKLOADS, Comparison, Own, peer

PLAN = Plan(rounds=2, seconds=1, warm_up_s=0)


def samples(name: str, rates: list[float], load: str = "c=1") -> list[Sample]:
    return [Sample(load, name, {"per_s": rate, "p50_ms": 1000 / rate, "errors": 0}) for rate in rates]


def results(workload: str, *found: list[Sample]) -> report.Results:
    machine = dict.fromkeys(("commit", "cpu", "kernel", "python", "nginx", "wrk", "h2load"), "x")
    return {
        "workload": workload,
        "title": "a title",
        "command": f"make bench ONLY={workload}",
        "plan": {"rounds": 3, "seconds": 2, "warm_up_s": 1},
        "machine": {**machine, "cpus": 2, "memory_gib": 1.0},
        "versions": {"samovar": "0"},
        "rows": summarise([sample for part in found for sample in part]),
    }


def test_a_summary_has_medians_and_the_spread() -> None:
    (row,) = summarise(samples("a", [30.0, 10.0, 20.0]))
    assert row["median"]["per_s"] == 20
    assert (row["least"]["per_s"], row["greatest"]["per_s"], row["rounds"]) == (10, 30, 3)


def test_a_margin_divides_medians_of_one_run() -> None:
    found = results("echo-json", samples(OURS, [400, 500, 600]), samples("triton", [100, 100, 900]))
    rate, latency = (margin for margin in margins.of("echo-json") if margin.load == "c=1")
    assert rate.value(found) == 5
    assert latency.value(found) == pytest.approx(0.2)
    assert [rate.verdict(value) for value in (3.4, 3.5, 4.5)] == ["missed", "gate", "goal"]
    assert [latency.verdict(value) for value in (0.34, 0.33, 0.22)] == ["missed", "gate", "goal"]


def test_a_margin_against_the_best_sees_settings_by_hand_of_everybody() -> None:
    load = "c=64"
    found = results(
        "batching",
        samples(OURS, [90], load),
        samples(f"{OURS} (max_batch_size=64)", [100], load),
        samples("triton (delay_ms=1)", [120], load),
    )
    margin = next(margin for margin in margins.of("batching") if margin.load == load)
    assert margin.value(found) == 0.75


def test_a_margin_may_be_a_difference() -> None:
    found = results("batching", samples(OURS, [100]), samples(margins.UNBATCHED, [125]))
    margin = next(margin for margin in margins.of("batching") if margin.is_difference)
    assert margin.value(found) == pytest.approx(2.0)
    assert report.margin_rows([found])[1][3] == f"less {margins.UNBATCHED}"


def test_a_margin_without_its_figures_is_left_out() -> None:
    found = results("echo-json", samples(OURS, [400]))
    assert len(report.margin_rows([found])) == 1


def test_every_margin_names_a_workload_that_has_its_peer_and_load() -> None:
    workloads = {workload.name: workload for workload in WORKLOADS}
    for margin in margins.MARGINS:
        workload = workloads[margin.workload]
        if isinstance(workload, Comparison):
            assert margin.peer in ("", margins.BEST, margins.UNBATCHED, *workload.peers)
            assert margin.load in {load.label for load in workload.loads}


def test_every_workload_has_its_place_in_the_documents() -> None:
    page = report.PAGE.read_text()
    for name in ("margins", "machine", *(workload.name for workload in WORKLOADS)):
        assert f"<!-- bench {name} -->\n" in page
    assert "<!-- bench margins -->\n" in report.README.read_text()


def test_documents_are_filled_between_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("README", "PAGE"):
        path = tmp_path / name
        path.write_text("before\n<!-- bench margins -->\nold\n<!-- end -->\nafter\n")
        monkeypatch.setattr(report, name, path)
    page = tmp_path / "PAGE"
    page.write_text(page.read_text() + "<!-- bench machine -->\n<!-- end -->\n<!-- bench echo-json -->\n<!-- end -->\n")
    found = results("echo-json", samples(OURS, [400, 500]), samples("triton", [100, 100]))
    (tmp_path / "echo-json.json").write_text(json.dumps(found))
    report.update(tmp_path)
    text = (tmp_path / "README").read_text()
    assert text.startswith("before\n<!-- bench margins -->\n| workload")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    assert "| 4.5 |" in text
    assert "450 (400-500)" in page.read_text()


def test_a_chart_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    found = results("echo-json", samples(OURS, [400, 500]), samples("triton", [1, 2]), samples(OURS, [4], "100/s"))
    for row in found["rows"]:
        for kind in ("median", "least", "greatest"):
            row[kind]["p99_ms"] = 1.0
    for name in ("a.svg", "b.svg"):
        charts.draw(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"triton" not in (tmp_path / "a.svg").read_bytes()[:200]


def test_slow_work_is_measured_for_longer() -> None:
    assert PLAN.longer(5) == Plan(rounds=2, seconds=5, warm_up_s=0)
    assert {one.name for one in WORKLOADS if one.longer > 1} == {"cnn", "plates", "plates-bare"}


def test_tenths_are_told_of_a_few_a_second() -> None:
    found = results("echo-json", samples(OURS, [4.26, 4.26, 12.5]))
    assert "| 4.3 (4.3-12) |" in report.markdown(report._rows(found))


def test_rounds_turn_the_order_of_the_peers() -> None:
    workload = next(one for one in WORKLOADS if one.name == "image-binary")
    assert workload.units(PLAN, [OURS, "triton"]) == ["0:triton", "0:samovar", "1:samovar", "1:triton"]
    assert workload.units(PLAN, [OURS]) == ["0:samovar", "1:samovar"]


def test_what_was_measured_is_kept_for_this_commit_and_plan_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOCAL", tmp_path)
    monkeypatch.setattr(run, "PROGRESS", tmp_path / "progress.jsonl")
    workload = Own("echo-x", "", lambda plan: samples(OURS, [plan.seconds]), 1.0)
    found = workload.run("0", PLAN)
    run.keep(PLAN, workload, "0", found, 1.0)
    assert run.progress(PLAN) == {("echo-x", "0"): found}
    assert run.progress(Plan(rounds=3, seconds=1, warm_up_s=0)) == {}
    monkeypatch.setattr(machine, "commit", lambda: "another")
    assert run.progress(PLAN) == {}


def test_wrong_names_say_what_there_is() -> None:
    with pytest.raises(SystemExit, match='no workload begins with "ecko"; there are echo-json'):
        run.chosen("ecko", is_short=False)
    with pytest.raises(SystemExit, match='no peer is called "tritn"; there are bentoml'):
        run.peers("tritn", is_short=False)


def test_every_peer_does_the_work_that_it_is_asked_for() -> None:
    for workload in WORKLOADS:
        if isinstance(workload, Comparison):
            for name in workload.peers:
                assert workload.form_of(name) in peer(name).works[workload.work.name], (workload.name, name)


@pytest.mark.parametrize("form", ["json", "binary", "grpc"])
def test_requests_of_the_protocol_carry_the_array(form: str) -> None:
    request = oip.request("image", form, IMAGE.inputs())
    assert IMAGE.inputs().tobytes() in request.body or form == "json"
    assert ("image" in request.path) is (form != "grpc")


def test_what_nginx_answers_is_an_answer() -> None:
    assert ECHO.right(ECHO.inputs(), oip.read("json", Answer(nginx.static_answer("echo"))))


def test_options_by_hand_go_into_the_decorator(tmp_path: Path) -> None:
    copy = decorated(MODELS / "steady.py", tmp_path, {"max_batch_size": 8, "max_queue_delay_ms": 1})
    assert "@samovar.model(max_batch_size=8, max_queue_delay_ms=1)" in copy.read_text()
