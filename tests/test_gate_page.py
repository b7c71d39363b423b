"""docs/gate.md: its commands run, its gate file is valid, its figures are computed, its script draws its picture."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from lmeval.gate.config import RULE_KINDS, GateSpec, load_gate_file
from lmeval.gate.suite import EXIT_CODES
from tests.cli.command import lmeval

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "gate.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_commands_run_in_the_order_shown_with_the_exit_codes_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for block in fenced("sh") for line in block.splitlines()]
    assert len(lines) == 7
    for line in lines:
        shown = re.search(r"# exits with (\d+)", line)
        command = shlex.split(line, comments=True)
        assert command[0] == "lmeval"
        ran = lmeval(*command[1:])
        assert ran.code == (int(shown[1]) if shown else 0), (line, ran)
        if shown and "--config" not in command:
            assert "268 documents" in ran.out and "1.33 points" in ran.out
    assert {path.name for path in tmp_path.glob("gate.*")} == {
        "gate.yaml",
        "gate.json",
        "gate.xml",
        "gate.md",
    }


def test_the_gate_file_shown_is_valid(tmp_path: Path) -> None:
    (block,) = fenced("yaml")
    (tmp_path / "gate.yaml").write_text(block, encoding="utf-8")
    config = load_gate_file(tmp_path / "gate.yaml")
    assert len(config.rules) == 4 and config.baseline is not None and config.baseline.anchor


def test_every_rule_and_every_key_is_explained() -> None:
    for kind in RULE_KINDS:
        assert re.search(rf"`[^`]*\b{kind}:", PAGE), kind
    for key in (*GateSpec.model_fields, "alpha", "power"):
        assert f"`{key}" in PAGE, key


def test_every_verdict_is_in_the_first_table_with_its_exit_code() -> None:
    rows = re.findall(r"^\| ([A-Z ]+) \| .* \| (\d+) \|$", PAGE, flags=re.MULTILINE)
    assert {name.replace(" ", "_"): int(code) for name, code in rows} == EXIT_CODES


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert len(links) >= 4
    for link in links:
        assert (DOCS / link).exists(), link


# ---- the picture ----


def plot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_gate_plot", DOCS / "make_gate_plot.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_figures_in_the_text_are_those_of_the_picture() -> None:
    no_drop, shown = plot().pass_rates(200, -0.03)
    assert f"passes that test {100 * no_drop:.0f} % of the time" in PAGE.replace("\n", " ")
    assert f"with a margin of 1 point {100 * shown:.1f} % of the time" in PAGE.replace("\n", " ")


def test_the_picture_is_whole_and_needs_nothing_from_outside() -> None:
    text = (DOCS / "gate.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "<script" not in text and "@import" not in text and "<image" not in text
    assert "fill: #ffffff" in text  # a ground of its own: legible on dark pages


@pytest.mark.slow
def test_the_script_draws_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the docs extra")
    plot().draw(tmp_path / "gate.svg")
    drawn, kept = (ElementTree.parse(path).getroot() for path in (tmp_path / "gate.svg", DOCS / "gate.svg"))
    assert drawn.attrib["viewBox"] == kept.attrib["viewBox"]
    assert len(list(drawn.iter())) == len(list(kept.iter()))
