from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmeval import selftest
from lmeval.gate.config import GateConfig
from lmeval.gate.suite import GateReport, judge_suite
from lmeval.runs import StoredRun
from tests.cli.command import Ran, lmeval

SURE = "demo_minimal_pairs,demo_ppl"


def try_it(*arguments: str | Path, model: str = "demo", tasks: str = SURE, limit: int = 40) -> Ran:
    return lmeval("selftest", "--model", model, "--tasks", tasks, "--limit", str(limit), *arguments)


def gate_file(folder: Path, *gates: str) -> Path:
    file = folder / "gate.yaml"
    file.write_text("version: 1\ngates:\n" + "".join(f"  - {gate}\n" for gate in gates))
    return file


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_a_suite_that_can_be_trusted(tmp_path: Path) -> None:
    ran = try_it("--json", tmp_path / "found.json")
    assert (ran.code, ran.err) == (0, "")
    found = read(tmp_path / "found.json")
    assert found["passed"] is True and found["false_alarms"] == []
    assert found["variants"] == ["float32, batches of 1,024 tokens", "float32, batches of 256 tokens"]
    floors = {(floor["task"], floor["metric"]): floor for floor in found["floors"]}
    pairs, bits = floors["demo_minimal_pairs", "acc"], floors["demo_ppl", "bits_per_byte"]
    for floor in (pairs, bits):
        assert 0 < floor["nats"] < 1e-4  # the batch budget is felt, and by no more than the engine promises
    assert pairs["flips"] == 0 and bits["flips"] is None
    assert pairs["margins"] == [0.01]
    assert 0 < bits["difference"] < 1e-6 and bits["safe_margin"] == pytest.approx(2 * bits["difference"])
    strengths = [damage["strength"] for damage in found["damage"]]
    assert strengths == list(selftest.STRENGTHS[: len(strengths)])
    assert [damage["seen"] for damage in found["damage"]] == [False] * (len(strengths) - 1) + [True]
    assert found["damage"][-1]["gate"]["verdict"] == "FAIL"
    assert "damage is seen: noise of" in ran.out and ran.out.endswith("selftest: passed\n")


def test_a_margin_below_the_noise_is_refused_and_a_safe_one_named(tmp_path: Path) -> None:
    tiny = "{task: demo_ppl, metric: bits_per_byte, rule: {noninferior: {margin: 0.0000000001}}}"
    fair = "{task: demo_minimal_pairs, metric: acc, rule: {noninferior: {margin: 0.05}}}"
    ran = try_it(
        "--dtype", "bfloat16", "--config", gate_file(tmp_path, tiny, fair), "--json", tmp_path / "found.json"
    )  # fmt: skip
    assert ran.code == 10, ran
    found = read(tmp_path / "found.json")
    assert [variant.partition(",")[0] for variant in found["variants"]] == [
        "bfloat16",
        "bfloat16",
        "float32",
        "float32",
    ]
    (refused,) = [floor for floor in found["floors"] if floor["refused"]]
    assert (refused["task"], refused["metric"]) == ("demo_ppl", "bits_per_byte")
    assert refused["difference"] > 1e-6  # half precision
    assert "demo_ppl bits_per_byte: the margin 1.0e-10 is below the noise; a margin of" in ran.out
    assert "selftest: FAILED" in ran.out


def test_a_suite_that_sees_no_damage_fails() -> None:
    ran = try_it(tasks="demo_minimal_pairs", limit=2)
    assert ran.code == 10, ran
    assert "no damage is seen: with noise of 3 standard deviations" in ran.out
    assert ran.out.count("damaged, noise of") == len(selftest.STRENGTHS)


def test_a_masked_model(tmp_path: Path) -> None:
    ran = try_it("--json", tmp_path / "found.json", model="demo-masked", tasks="demo_cloze", limit=20)
    assert ran.code == 0, ran
    assert read(tmp_path / "found.json")["damage"][-1]["layer"].startswith("model.layers.")


def test_weights_that_score_no_number_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "STRENGTHS", (1e38,))
    ran = try_it("--json", tmp_path / "found.json", tasks="demo_minimal_pairs", limit=3)
    assert ran.code == 0, ran
    (damage,) = read(tmp_path / "found.json")["damage"]
    assert damage["seen"] and damage["gate"] is None and "log-likelihood is" in damage["problem"]


def test_a_gate_that_fails_the_same_weights_is_a_false_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def judge(candidate: StoredRun, baseline: StoredRun, config: GateConfig) -> GateReport:
        report = judge_suite(candidate, baseline, config)
        return replace(report, results=tuple(replace(result, verdict="FAIL") for result in report.results))

    monkeypatch.setattr(selftest, "judge_suite", judge)
    ran = try_it(tasks="demo_minimal_pairs", limit=5)
    assert ran.code == 10, ran
    assert "false alarm: the gate fails the same weights in float32, batches of 256 tokens" in ran.out


def test_rules_that_say_nothing_here_are_named_or_refused(tmp_path: Path) -> None:
    useful = "{task: demo_minimal_pairs, metric: acc, rule: {noninferior: {margin: 0.02}}}"
    lower = "{task: demo_minimal_pairs, metric: acc, rule: {min: 0.3}}"
    absent = "{task: lambada, metric: acc, rule: {noninferior: {margin: 0.01}}}"
    ran = try_it("--config", gate_file(tmp_path, useful, lower, absent), tasks="demo_minimal_pairs", limit=40)
    assert "rules that a self-test cannot try: demo_minimal_pairs min, lambada noninferior" in ran.out
    ran = try_it("--config", gate_file(tmp_path, lower, absent), tasks="demo_minimal_pairs", limit=3)
    assert ran.code == 2 and "compares any of demo_minimal_pairs with a baseline" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--config", "nowhere.yaml"], "nowhere.yaml"), (["--model", "nowhere/at/all"], "no model at")],
)
def test_bad_input(arguments: list[str], message: str) -> None:
    ran = lmeval("selftest", "--model", "demo", "--tasks", "demo_minimal_pairs", *arguments)
    assert ran.code == 2 and message in ran.err, ran
