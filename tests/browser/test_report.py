"""The report in a browser: its heat maps by keyboard, its switches, hostile runs, and what axe says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmeval.pages import visible
from lmeval.records import (
    CalibrationRecord,
    DropRecord,
    GroupRecord,
    PerturbedRecord,
    ReliabilityBin,
    Sample,
    TokenScore,
    canonical_sha256,
)
from lmeval.report import report_page
from lmeval.runs import load_run
from tests.gate.finished import Task, chosen, finished_run, flags, task_record, written

HOSTILE = [
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>",
    "\"'><svg onload=alert(3)> ' data-x=\"",
    "\u202egnp.exe\u2066 \u200b\x1b[2J\x07 \u2028 מה זה العربية",
    "<!--<script>{{ alert(4) }} \ud800 ${alert(5)}",
]


def token(text: str, nats: float, rank: int = 1) -> TokenScore:
    return TokenScore(text, -nats, rank, ((" likely", -0.25), (HOSTILE[0], -2.0)))


def texts(*given: str, tokens: bool = True) -> Task:
    samples = [
        Sample(
            i,
            canonical_sha256(["text", i]),
            target=text,
            loglikelihood=-10.0 * (i + 1),
            num_tokens=4,
            num_bytes=max(1, len(text.encode("utf-8", "replace"))),
            num_words=3,
            tokens=(
                (token("The", 0.5), token(" cat", 3.25, 17), token("\n", 12.0, 900), token(text[:50], 1.0)),
            )
            if tokens
            else None,
        )
        for i, text in enumerate(given)
    ]
    return Task("perplexity", ("bits_per_byte", "word_ppl"), samples)


def everything(folder: Path, hostile: str = "x") -> Path:
    """A run with every part that a report can have, `hostile` wherever a text may stand."""
    alpha = chosen(flags(40, range(9)))
    context = f"First {hostile}\n\nSecond shot\n\nQuestion: {hostile}"
    samples = [
        replace(
            sample, context=context + str(sample.doc_id), choices=(f" yes {hostile}", " no"), group=hostile
        )
        for sample in alpha.samples
    ]
    record, _ = task_record(alpha)
    value = record.metrics["acc"]
    bins = tuple(ReliabilityBin(i / 5, (i + 1) / 5, 8, i / 5 + 0.1, i / 5) for i in range(5))
    changes = {
        "num_fewshot": 2,
        "description": hostile,
        "tags": (hostile,),
        "group_by": hostile,
        "groups": {name: GroupRecord(20, {"acc": value}) for name in (hostile, "other")},
        "group_rule": f"mean {hostile}",
        "calibration": CalibrationRecord({"ece": value}, bins, bins),
        "perturbed": {
            "typos": PerturbedRecord(
                0, 30, "", {"acc": value}, {"acc": DropRecord(-0.1, 0.05, -0.2, -0.01, "t", 0.02)}
            )
        },
    }
    return finished_run(
        folder,
        {
            "alpha": Task(alpha.type, alpha.metrics, samples, changes),
            "beta": texts(hostile, "The cat\nsat", "On the mat"),
            "gamma": written([hostile, "a dog ran in the park"], ["the cat", hostile]),
        },
        skipped={hostile: hostile},
    )


def html(folder: Path, against: Path | None = None) -> str:
    return report_page(load_run(folder), None if against is None else load_run(against)).html


def test_hostile_runs_are_text(open_page: Callable[..., Any], tmp_path: Path) -> None:
    hostile = " ".join(HOSTILE)
    runs = [everything(tmp_path / name, hostile) for name in ("a", "b")]
    for run in runs:
        record = json.loads((run / "run.json").read_text())
        record |= {"command": hostile, "run_id": hostile}
        record["model"] |= {"id": hostile, "architecture": hostile, "dtype": hostile}
        record["efficiency"]["note"] = hostile
        (run / "run.json").write_text(json.dumps(record))
    page = open_page(html(*runs))
    page.wait_for_function("document.querySelectorAll('.chart svg').length >= 3")
    assert page.locator("main script, main img, main iframe, [onload], [onerror]").count() == 0
    shown = page.locator("#task-beta .card pre").evaluate_all("(found) => found.map((e) => e.textContent)")
    assert visible(hostile) in shown
    drawn = "".join(page.locator("main").evaluate_all("(found) => found.map((e) => e.textContent)"))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", drawn)


def test_a_document_of_a_megabyte_is_cut_with_a_word(open_page: Callable[..., Any], tmp_path: Path) -> None:
    made = html(
        finished_run(tmp_path / "a", {"beta": texts("A" * 500_000 + "</script>" + "Z" * 500_000, "short")})
    )
    assert len(made.encode()) < 1_500_000
    page = open_page(made)
    said = page.get_by_text(re.compile(r"994,009 more characters are in samples/beta\.jsonl, line 1 "))
    assert said.count() == 1


def test_tokens_are_walked_by_keyboard_and_tapped(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(html(everything(tmp_path / "a")), has_touch=True)
    first = page.locator("#task-beta .tokens").first
    first.locator(".token").first.focus()
    tip = page.get_by_role("tooltip")
    assert "0.50 nats, 60.7 %" in tip.inner_text() and "the likeliest" in tip.inner_text()
    page.keyboard.press("ArrowRight")
    text = tip.inner_text()
    assert "3.25 nats" in text and "rank 17" in text
    assert "␣likely" in text and "77.9 %" in text and "</script>" in text
    assert page.evaluate("document.activeElement.textContent") == " cat"
    assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert "12.00 nats" in tip.inner_text() and page.evaluate("document.activeElement.textContent") == "↵\n"
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    assert first.locator("[tabindex='0']").count() == 1, "Tab leaves the map at once"
    first.locator(".token").nth(1).tap()
    assert "rank 17" in tip.inner_text()
    page.mouse.move(0, 0)
    first.locator(".token").nth(2).hover()
    assert "rank 900" in tip.inner_text()


def test_without_tokens_it_says_how_to_get_them(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(html(finished_run(tmp_path / "a", {"beta": texts("one", "two", tokens=False)})))
    assert page.get_by_text("--save-tokens").count() == 1
    assert page.locator(".tokens").count() == 0


def test_white_space_shows_on_demand(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(html(everything(tmp_path / "a", "a\tb  c")))
    prompt = page.locator("#task-alpha .card pre").nth(1)
    before = prompt.text_content()
    assert before.startswith("Question: a\tb  c")
    button = page.get_by_role("button", name="White space")
    button.press("Enter")
    assert prompt.text_content().startswith("Question:·a⇥\tb··c")
    button.press("Enter")
    assert prompt.text_content() == before


def test_shots_are_folded(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(html(everything(tmp_path / "a")))
    card = page.locator("#task-alpha .card").first
    assert not card.get_by_text("Second shot").is_visible()
    card.get_by_text("2 shots, 22 characters").click()
    assert card.get_by_text("Second shot").is_visible()


def test_copying_gives_the_command_and_the_record(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(html(everything(tmp_path / "a")), permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the command").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "lmeval run"
    page.get_by_role("button", name="Copy all as JSON").click()
    page.get_by_role("button", name="Copied").nth(1).wait_for()
    assert page.evaluate("navigator.clipboard.readText().then(JSON.parse).then((r) => r.run_id)") == "a"


def test_many_tasks_are_folded_and_a_link_opens_one(open_page: Callable[..., Any], tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a", {f"task{i}": chosen(flags(20, [i])) for i in range(12)})
    page = open_page(html(run))
    assert page.locator("details.task[open]").count() == 0
    page.get_by_role("link", name="task7").click()
    assert page.locator("#task-task7 .card").first.is_visible()
    page.locator("#distribution-task7 svg").wait_for()
    assert page.locator(".chart svg").count() == 1, "charts that are folded away wait"


def test_two_runs_side_by_side(open_page: Callable[..., Any], tmp_path: Path) -> None:
    a = finished_run(tmp_path / "a", {"alpha": chosen(flags(60, range(7))), "beta": texts("one", "two")})
    b = finished_run(
        tmp_path / "b", {"alpha": chosen(flags(60, range(4, 15))), "beta": texts("one", "two", "three")}
    )
    page = open_page(html(a, b))
    card = page.locator("#task-alpha .documents").first.locator(".card").first
    heads = card.locator("thead th").all_inner_texts()
    assert heads == ["choice", "A: probability", "nats", "B: probability", "nats"]
    assert card.get_by_text("A predicts it").count() == card.get_by_text("B predicts it").count() == 1
    assert page.locator("#task-beta").get_by_text("Not compared:").is_visible()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(
    open_page: Callable[..., Any],
    violations: Callable[[Any], list[str]],
    tmp_path: Path,
    scheme: str,
    width: int,
) -> None:
    made = html(everything(tmp_path / "a"), everything(tmp_path / "b"))
    page = open_page(made, color_scheme=scheme, width=width)
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    page.wait_for_function("document.querySelectorAll('.chart svg').length >= 3")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_paper_shows_the_tasks_in_light_colours(open_page: Callable[..., Any], tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a", {f"task{i}": chosen(flags(20, [i])) for i in range(9)})
    page = open_page(html(run), color_scheme="dark")
    assert page.locator("details.task[open]").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details.task[open]").count() == 9
    assert page.locator("body").evaluate("(e) => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
    assert page.get_by_role("button", name="White space").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.task[open]").count() == 0
