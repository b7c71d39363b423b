from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from lmeval.gate.config import Rule
from lmeval.gate.result import Verdict
from lmeval.gate.summary import (
    NUM_ANNOTATIONS,
    annotation_level,
    annotation_lines,
    cell,
    code,
    fenced,
    github_summary,
    inline,
    markdown_text,
)
from tests.gate.results import NASTY, RULE, report, result

VERDICTS: tuple[Verdict, ...] = ("PASS", "FAIL", "INCONCLUSIVE", "NOT_COMPARABLE")
MARKDOWN = MarkdownIt("commonmark").enable("table")


def rendered(text: str) -> str:
    return MARKDOWN.render(text)


def visible(text: str) -> str:
    return html.unescape(re.sub("<[^>]*>", "", rendered(text)))


# ---- Markdown ----


def test_the_table_has_a_row_of_as_many_cells_as_columns_for_every_rule() -> None:
    found = report(*map(result, VERDICTS), result("FAIL", method=NASTY, rule=replace(RULE, task="a|b")))
    page = rendered(markdown_text(found))
    rows = re.findall("<tr>(.*?)</tr>", page, flags=re.DOTALL)
    assert len(rows) == 1 + 5
    assert {row.count("<t") for row in rows} == {12}
    assert "a|b" in html.unescape(rows[3])


def test_the_gravest_come_first() -> None:
    page = markdown_text(report(*map(result, VERDICTS)))
    assert re.findall(r"^\| ([A-Z ]+) \|", page, flags=re.MULTILINE) == [
        "NOT COMPARABLE",
        "FAIL",
        "INCONCLUSIVE",
        "PASS",
    ]


def test_every_rule_that_did_not_pass_has_its_sentence() -> None:
    text = visible(markdown_text(report(*map(result, VERDICTS))))
    assert "lmeval gate: NOT COMPARABLE" in text
    assert "FAIL: quiz acc (noninferior, margin 0.01): worse than the baseline by more than 1 point" in text
    assert "INCONCLUSIVE: quiz acc (noninferior, margin 0.01): the data allow anything from" in text
    assert "NOT COMPARABLE: quiz acc (noninferior, margin 0.01): quiz: the runs cannot be compared" in text
    assert "PASS: quiz" not in text
    assert "a note" in text and "ci/gate.yaml" in text


def test_flips_are_shown_once_for_a_metric_however_many_rules_are_about_it() -> None:
    page = markdown_text(report(result("FAIL"), result("PASS", rule=Rule("quiz", "acc", "min", bound=0.5))))
    assert page.count("<details>") == 1
    assert page.count('expected " yes"') == 1


def test_prompts_cannot_break_out_of_their_block() -> None:
    page = rendered(markdown_text(report(result("FAIL"))))
    (block,) = re.findall("<pre><code.*?>(.*?)</code></pre>", page, flags=re.DOTALL)
    assert "# head" in html.unescape(block) and "```" in block and "\\u0000" in block
    assert page.count("<h1") == 0 and page.count("<h2") == 1
    assert "\x1b" not in page


@pytest.mark.parametrize("text", ["*a* _b_ [c](d) <e> `f` # g | h \\ i", "1 < 2 & 3 > 2", "~x~"])
def test_text_is_taken_literally(text: str) -> None:
    assert visible(inline(text)).strip() == text
    assert visible(f"| a |\n| --- |\n| {cell(text)} |\n").split("\n")[-6:].count(text) == 1
    assert visible(code(text)).strip() == text


def test_a_block_of_code_holds_any_backticks() -> None:
    text = "``` and ````` more"
    assert visible(fenced(text)).strip() == text


# ---- the job summary ----


def test_a_summary_that_fits_is_whole() -> None:
    found = report(result("FAIL"))
    assert github_summary(found) == markdown_text(found)


@pytest.mark.parametrize("room", [2_000, 5_000, 20_000, 60_000])
def test_a_summary_is_cut_between_rows_and_says_how_many_are_left(room: int) -> None:
    results = [result("PASS", rule=replace(RULE, task=f"task_{i}")) for i in range(200)]
    found = report(*results, result("FAIL", rule=replace(RULE, task="worst")))
    text = github_summary(found, room)
    whole = markdown_text(found)
    assert len(text.encode()) <= room < len(whole.encode())
    kept, note = text.rsplit("\n\n*", 1)
    assert whole.startswith(kept)
    assert kept.endswith("\n")  # cut at the end of a row, or of a section
    assert re.fullmatch(r"\d+ more rows and sections did not fit here; .*\*\n", note)
    assert "worst" in kept  # what failed is never what is left out


def test_no_room_at_all_gives_nothing() -> None:
    assert github_summary(report(result("FAIL")), 50) == ""


# ---- annotations ----


def test_an_annotation_for_the_suite_and_for_every_rule_that_did_not_pass() -> None:
    lines = annotation_lines(report(*map(result, VERDICTS)))
    assert lines[0] == (
        "::error title=lmeval gate%3A NOT COMPARABLE::1 NOT COMPARABLE, 1 FAIL, 1 INCONCLUSIVE, 1 PASS"
    )
    assert lines[1].startswith(
        "::error file=ci/gate.yaml,line=5,title=FAIL%3A quiz acc::worse than the baseline"
    )
    assert len(lines) == 4
    assert lines[3].startswith("::error file=ci/gate.yaml,line=5,title=NOT COMPARABLE%3A quiz acc::")
    assert "compared:%0A  version: 1, 2." in lines[3]


def test_a_passing_suite_is_a_notice() -> None:
    assert annotation_lines(report(result())) == ["::notice title=lmeval gate%3A PASS::1 PASS"]


@pytest.mark.parametrize(
    ("verdict", "level", "on", "expected"),
    [
        ("FAIL", "error", "fail", "error"),
        ("NOT_COMPARABLE", "error", "pass", "error"),
        ("INCONCLUSIVE", "error", "fail", "error"),
        ("INCONCLUSIVE", "error", "warn", "warning"),
        ("INCONCLUSIVE", "error", "pass", "notice"),
        ("INCONCLUSIVE", "warn", "fail", "notice"),
        ("FAIL", "warn", "fail", "warning"),
        ("NOT_COMPARABLE", "warn", "fail", "warning"),
    ],
)
def test_an_error_is_what_changes_the_exit_code(verdict: Verdict, level: str, on: str, expected: str) -> None:
    found = result(verdict, rule=replace(RULE, level=level, on_inconclusive=on))  # type: ignore[arg-type]
    assert annotation_level(found) == expected
    assert (annotation_level(found) == "error") == (report(found).exit_code != 0)


def test_there_are_at_most_ten_and_the_last_says_how_many_are_left() -> None:
    rules = [replace(RULE, task=f"t{i}", level="warn" if i < 20 else "error") for i in range(30)]
    lines = annotation_lines(report(*(result("FAIL", rule=rule) for rule in rules)))
    assert len(lines) == NUM_ANNOTATIONS
    assert all(line.startswith("::error ") for line in lines[:-1])  # the gravest first
    assert lines[-1].endswith("::22 more rules did not pass: see the job summary")
    assert len(annotation_lines(report(*(result("FAIL", rule=rule) for rule in rules[:9])))) == 10


def test_nothing_in_a_message_can_end_the_command() -> None:
    nasty = result(
        "NOT_COMPARABLE", rule=replace(RULE, task="t,x::y"), problem="50 %\r\n::error::boo\x00\u2028"
    )
    line = annotation_lines(report(nasty, file="a,b:c.yaml"))[1]
    assert "\n" not in line and "\r" not in line and "\x00" not in line
    command, properties, message = re.fullmatch("::(error) (.*?)::(.*)", line).groups()  # type: ignore[union-attr]
    assert command == "error"
    assert properties == "file=a%2Cb%3Ac.yaml,line=5,title=NOT COMPARABLE%3A t%2Cx%3A%3Ay acc"
    assert message == "50 %25%0D%0A::error::boo\\u0000\\u2028."


def test_without_a_file_there_is_no_place_to_point_to() -> None:
    line = annotation_lines(report(result("FAIL"), file=None))[1]
    assert line.startswith("::error title=")
