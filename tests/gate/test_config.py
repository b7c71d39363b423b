from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from lmeval.errors import UsageError
from lmeval.gate.config import GateConfig, Margin, Rule, load_gate_file

SPECIFIED = """\
version: 1
baseline: {path: results/main, anchor: results/v1.0}
defaults: {alpha: 0.05, power: 0.8, level: error, on_inconclusive: fail, cluster: auto}
gates:
  - {task: lambada, metric: acc,           rule: {noninferior: {margin: 0.01}}}
  - {task: ppl,     metric: bits_per_byte, rule: {noninferior: {relative: 0.5%}}}
  - {task: lambada, metric: acc,           rule: {min: 0.30, on: ci_bound}}
  - {task: "blimp_*", metric: acc,         rule: {noninferior: {margin: 0.02}}, level: warn}
sequential: {enabled: false, seed: 0}
"""


def load(folder: Path, text: str) -> GateConfig:
    file = folder / "gate.yaml"
    file.write_text(text, encoding="utf-8")
    return load_gate_file(file)


def load_rule(folder: Path, rule: str, more: str = "") -> Rule:
    (found,) = load(folder, f"version: 1\n{more}gates:\n  - {{task: t, rule: {rule}}}\n").rules
    return found


def test_the_file_of_the_specification(tmp_path: Path) -> None:
    config = load(tmp_path, SPECIFIED)
    assert config.rules == (
        Rule("lambada", "acc", "noninferior", Margin(0.01), line=5),
        Rule("ppl", "bits_per_byte", "noninferior", Margin(0.005, relative=True), line=6),
        Rule("lambada", "acc", "min", bound=0.3, on="ci_bound", line=7),
        Rule("blimp_*", "acc", "noninferior", Margin(0.02), level="warn", line=8),
    )
    assert config.baseline is not None
    assert config.resolve(config.baseline.path) == tmp_path / "results/main"
    assert (config.defaults.alpha, config.defaults.power) == (0.05, 0.8)
    assert not config.sequential.enabled


@pytest.mark.parametrize(
    ("text", "kind", "margin", "bound"),
    [
        ("{noninferior: {margin: 1}}", "noninferior", Margin(1.0), None),
        ('{noninferior: {relative: "2 %"}}', "noninferior", Margin(0.02, relative=True), None),
        ("{noninferior: {relative: 0.005}}", "noninferior", Margin(0.005, relative=True), None),
        ("{superior: {}}", "superior", Margin(0.0), None),
        ("{superior: {margin: 0.01}}", "superior", Margin(0.01), None),
        ("{superior: {relative: 1%}}", "superior", Margin(0.01, relative=True), None),
        ("{min: 0}", "min", None, 0.0),
        ("{max: 25.5}", "max", None, 25.5),
        ("{max_drop: 0.02}", "max_drop", Margin(0.02), None),
        ("{max_relative_drop: 5%}", "max_relative_drop", Margin(0.05, relative=True), None),
    ],
)
def test_every_kind_of_rule(
    tmp_path: Path, text: str, kind: str, margin: Margin | None, bound: float | None
) -> None:
    rule = load_rule(tmp_path, text)
    assert (rule.kind, rule.margin, rule.bound, rule.metric) == (kind, margin, bound, None)
    assert rule.needs_baseline == (bound is None)
    assert rule.on_point_estimate == (kind not in ("noninferior", "superior"))


def test_a_gate_says_for_itself_what_the_defaults_say_for_all(tmp_path: Path) -> None:
    defaults = "defaults: {level: warn, on_inconclusive: pass, cluster: none}\n"
    rule = load_rule(tmp_path, "{min: 1}", defaults)
    assert (rule.level, rule.on_inconclusive, rule.cluster) == ("warn", "pass", "none")
    own = "{min: 1}, level: error, on_inconclusive: warn, cluster: auto"
    rule = load_rule(tmp_path, own, defaults)
    assert (rule.level, rule.on_inconclusive, rule.cluster) == ("error", "warn", "auto")


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (
            "{task: t, metrc: acc, rule: {min: 1}}",
            r'key gates\[0\].metrc.*Did you mean "metric"\? Allowed are task',
        ),
        ("{task: t, rule: {noninferiour: {margin: 1}}}", r'rule.noninferiour.*Did you mean "noninferior"'),
        ("{task: t, rule: {noninferior: {margn: 1}}}", r'noninferior.margn.*Did you mean "margin"'),
        (
            "{task: t, rule: {noninferior: {margin: -0.01}}}",
            r"margin.*found -0.01; allowed is a number above 0",
        ),
        ("{task: t, rule: {noninferior: {margin: 0}}}", r"allowed is a number above 0"),
        ("{task: t, rule: {noninferior: {margin: .nan}}}", r"found NaN; allowed is a finite number"),
        ("{task: t, rule: {noninferior: {margin: .inf}}}", r"allowed is a finite number"),
        ('{task: t, rule: {noninferior: {margin: "0.01"}}}', r'found "0.01"; allowed is a number'),
        ("{task: t, rule: {noninferior: {margin: true}}}", r"found true; allowed is a number"),
        ("{task: t, rule: {noninferior: {relative: 0.5}}}", r"is 0.5 % meant\? Write 0.5%"),
        ("{task: t, rule: {noninferior: {relative: 100%}}}", r"a percentage above 0 and below 100"),
        ("{task: t, rule: {noninferior: {relative: -1%}}}", r"a percentage above 0 and below 100"),
        ("{task: t, rule: {noninferior: {relative: true}}}", r"found true; allowed is a percentage"),
        ("{task: t, rule: {noninferior: {}}}", r"give one of margin .* and relative"),
        ("{task: t, rule: {noninferior: {margin: 1, relative: 1%}}}", r"give one of margin .* and relative"),
        ("{task: t, rule: {noninferior: 0.01}}", r"found 0.01; allowed is a mapping"),
        ("{task: t, rule: {superior: {margin: 1, relative: 1%}}}", r"margin and relative are both given"),
        ("{task: t, rule: {superior: }}", r'"superior" has no value'),
        ("{task: t, rule: {}}", r"a rule is exactly one of noninferior, .*found none"),
        ("{task: t, rule: {min: 1, max: 2}}", r"exactly one of .*found min and max; write a gate for each"),
        ("{task: t, rule: {max_drop: 1, on: value}}", r'"on" belongs to min and max, not to max_drop'),
        ("{task: t, rule: {min: 1, on: ci}}", r"found \"ci\"; allowed is 'value' or 'ci_bound'"),
        (
            "{task: t, rule: {min: 1}, level: eror}",
            r'allowed is \'error\' or \'warn\'. Did you mean "error"\?',
        ),
        ("{task: t, rule: {min: 1}, on_inconclusive: skip}", r"allowed is 'fail', 'pass' or 'warn'"),
        ("{task: t}", r"gates\[0\].rule.*missing"),
        ("{rule: {min: 1}}", r"gates\[0\].task.*missing"),
        ('{task: "", rule: {min: 1}}', r"gates\[0\].task"),
        ("7", r"found 7; allowed is a mapping of keys to values"),
    ],
)
def test_a_mistake_in_a_gate_is_named_at_its_line(tmp_path: Path, gate: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load(tmp_path, f"version: 1\ngates:\n  - {gate}\n")
    assert re.search(message, f"{error.value.where} {error.value.what}"), str(error.value)
    assert f"{tmp_path / 'gate.yaml'}:3, key gates[0]" in (error.value.where or "")
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gates: [{task: t, rule: {min: 1}}]", r"version.*missing"),
        ("version: 2\ngates: [{task: t, rule: {min: 1}}]", r"found 2; allowed is 1"),
        ("version: 1", r"gates.*missing"),
        ("version: 1\ngates: []", r"empty; it needs at least one entry"),
        ("version: 1\ngate: [{task: t, rule: {min: 1}}]", r'unknown key. Did you mean "gates"'),
        (
            "version: 1\ndefaults: {alpha: 0.5}\ngates: [{task: t, rule: {min: 1}}]",
            r"alpha.*a number below 0.5",
        ),
        ("version: 1\ndefaults: {alpha: 0}\ngates: [{task: t, rule: {min: 1}}]", r"alpha.*a number above 0"),
        ("version: 1\ndefaults: {power: 1}\ngates: [{task: t, rule: {min: 1}}]", r"power.*a number below 1"),
        ("version: 1\nbaseline: results\ngates: [{task: t, rule: {min: 1}}]", r"baseline.*a mapping"),
        ("version: 1\nsequential: {enabled: 1}\ngates: [{task: t, rule: {min: 1}}]", r"true or false"),
        ("version: 1\nsequential: {seed: 0.5}\ngates: [{task: t, rule: {min: 1}}]", r"a whole number"),
        ("- 1", r"A gate file is a mapping"),
        ("", r"A gate file is a mapping"),
        ("version: 1\nversion: 1", r'The key "version" is given twice'),
        ("version: [", r"Not valid YAML"),
        ("version: !!python/object:os.system 1", r"tag"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load(tmp_path, text)
    assert re.search(message, f"{error.value.where} {error.value.what}"), str(error.value)
    assert str(tmp_path / "gate.yaml") in (error.value.where or "")


def test_all_mistakes_are_told_at_once_and_each_once(tmp_path: Path) -> None:
    text = "version: 1\ngates:\n  - {task: t, metrc: acc, rule: {min: x}}\n  - {task: t}\n"
    with pytest.raises(UsageError) as error:
        load(tmp_path, text)
    lines = error.value.what.splitlines()
    assert lines[0] == "3 problems in the file:"
    assert [re.search(r":(\d+), key (\S+):", line).groups() for line in lines[1:]] == [  # type: ignore[union-attr]
        ("3", "gates[0].metrc"),
        ("3", "gates[0].rule.min"),
        ("4", "gates[1].rule"),
    ]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such gate file"):
        load_gate_file(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="A folder, where a"):
        load_gate_file(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("version: 1\n# é".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8") as error:
        load_gate_file(tmp_path / "latin.yaml")
    assert error.value.where == f"{tmp_path / 'latin.yaml'}:2"
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(UsageError, match="allowed are 1,000,000"):
        load_gate_file(tmp_path / "large.yaml")


@pytest.mark.parametrize(
    "share", ["9" * 150_000, " " * 150_000, "9" * 90_000 + ".%", "0." + "9" * 90_000 + "%"]
)
def test_a_long_share_takes_no_time(tmp_path: Path, share: str) -> None:
    begin = time.process_time()
    with pytest.raises(UsageError, match="allowed is a percentage"):
        load_rule(tmp_path, f'{{noninferior: {{relative: "{share}"}}}}')
    assert time.process_time() - begin < 1


def test_globs_and_rules_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at most 200"):
        load(tmp_path, 'version: 1\ngates:\n  - {task: "' + "*a" * 101 + '", rule: {min: 0.1}}\n')
    with pytest.raises(UsageError, match="at most 1000"):
        load(tmp_path, "version: 1\ngates:\n" + "  - {task: t, rule: {min: 0.1}}\n" * 1_001)
