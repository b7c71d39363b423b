"""Templates that would run for hours or fill the memory: each is stopped, soon, by counting alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lmeval.errors import TemplateError
from lmeval.sandbox.source import MAX_DEPTH, MAX_SOURCE, MAX_TOKENS
from lmeval.templates import compile_template

LONG = "ab " * 300_000
COLUMNS: dict[str, Any] = {
    "long": LONG,
    "texts": ["a" * 100] * 1_000,
    "many": list(range(100_000)),
    "rows": [{"a": n} for n in range(5_000)],
}


def doubled(step: str, times: int = 40) -> str:
    """A value made of itself again and again: small to hold, endless to print."""
    return "{% set a = ['x'] %}{% set b = ['x'] %}" + step * times


BOMBS = {
    "loops": "{% for i in many %}{% for j in many %}{% endfor %}{% endfor %}",
    "a million steps": "{% for i in range(1000) %}{% for j in range(1000) %}{{ i + j }}{% endfor %}{% endfor %}",
    "a filter in a loop": "{% for i in many %}{{ long | upper | length }}{% endfor %}",
    "a search in a loop": "{% for i in many %}{% if 'zz' in long %}{% endif %}{% endfor %}",
    "a slice in a loop": "{% for i in range(900) %}{% set x = long[1:] %}{% endfor %}",
    "a block in a loop": "{% set x %}{% for i in range(900) %}{{ long }}{% endfor %}{% endset %}",
    "its own words in a loop": "{% set x %}{% for i in many %}" + "w" * 9_000 + "{% endfor %}{% endset %}",
    "comparisons": "{% for i in range(900) %}{% set x = many == many %}{% endfor %}",
    "laughs as text": doubled("{% set a = [a, a, a, a] %}") + "{{ a | string }}",
    "laughs as JSON": doubled("{% set a = [a, a, a, a] %}") + "{{ a | tojson }}",
    "laughs joined": doubled("{% set a = [a, a, a, a] %}") + "{{ a | join }}",
    "laughs appended": doubled("{% set a = [a, a, a, a] %}") + "{{ '' ~ a }}",
    "laughs formatted": doubled("{% set a = [a, a, a, a] %}") + "{{ '%s' % (a,) }}{{ '{}'.format(a) }}",
    "laughs in braces": doubled("{% set a = [a, a, a, a] %}") + "{{ '{}'.format(a) }}",
    "laughs compared": doubled("{% set a = [a, a, a] %}{% set b = [b, b, b] %}") + "{{ a == b }}",
    "laughs as a key": doubled("{% set a = (a, a) %}", 60).replace("['x']", "('x',)") + "{{ doc[a] }}",
    "laughs in a mapping": doubled("{% set a = (a, a) %}", 60).replace("['x']", "('x',)") + "{{ {a: 1} | length }}",
    "laughs sorted": doubled("{% set a = [a, a, a, a] %}") + "{{ [a, a] | sort | length }}",
    "laughs as a missing name": doubled("{% set a = [a, a, a, a] %}") + "{{ doc[a] }}",
    "doubled text": doubled("{% set a = a ~ a %}", 60) + "{{ a | length }}",
    "doubled list": doubled("{% set a = a + a %}", 60) + "{{ a | length }}",
    "squares": "{% set a = 9 %}" + "{% set a = a * a %}" * 60 + "{{ a }}",
    "powers": "{{ 9 ** 9 ** 9 }}",
    "powers of columns": "{{ (many | length) ** (many | length) }}",
    "large numbers": "{{ ('f' * 900000) | int(base=16) // 3 }}",
    "rounding": "{{ 1.5 | round(999999999, 'ceil') }}",
    "nothing replaced": "{{ long | replace('', long) | length }}",
    "everything replaced": "{{ long.replace('a', long) | length }}",
    "joined by a long text": "{{ texts | join(long) | length }}",
    "a long text joins": "{{ long.join(texts) | length }}",
    "prefixed": "{{ texts | prefix(long) | length }}",
    "mapped": "{{ texts | map('replace', '', long) | list | length }}",
    "repeated": "{{ ([long] * 1000) | map('default', 'x') | join | length }}",
    "summed": "{{ ([[1] * 1000] * 1000) | sum(start=[]) | length }}",
    "percents": "{{ ('%s' * 9000) % ((long,) * 9000) }}",
    "percents by name": "{{ ('%(long)s' * 9000) % doc }}",
    "braces": "{{ ('{0}' * 9000).format(long) | length }}",
    "braces by name": "{{ ('{long}' * 9000).format_map(doc) | length }}",
    "tabs": "{{ ('\\t' * 900000).expandtabs(9999) | length }}",
    "indents": "{{ rows | tojson(indent=99999) | length }}",
    "expanded matches": r"{{ long | regex_replace('(?=(.*))', '\\1\\1') | length }}",
    "long replacements": "{{ long | regex_replace('', long) | length }}",
    "patterns in a loop": "{% for i in range(900) %}{{ long | regex_replace('(a|ab| )*$', '') }}{% endfor %}",
    "a slow pattern": "{{ ('x' * 5000) | regex_replace('(x+x+)+y', '') }}",
    "a pattern that calls itself": "{{ long | regex_replace('(?R)?x', '') }}",
    "a pattern of patterns": "{{ long | regex_replace('(?:(?:(?:a{99}){99}){99}){99}', '') }}",
    "found in a list": "{{ many | select('in', many) | list | length }}",
}  # fmt: skip


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_stopped(source: str) -> None:
    begin = time.process_time()
    with pytest.raises(TemplateError):
        compile_template(source, key="context", task="t", file="t.yaml").text(COLUMNS, 0)
    assert time.process_time() - begin < 2


SOURCES = {
    "a long sum": "{{ " + " + ".join(["a"] * 100_000) + " }}",
    "a long sum, just short enough": "{{ " + " + ".join(["a"] * (MAX_TOKENS // 2 - 9)) + " }}",
    "brackets": "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
    "brackets, some": "{{ " + "(" * 150 + "1" + ")" * 150 + " }}",
    "lists": "{{ " + "[" * 10_000 + "]" * 10_000 + " }}",
    "nots": "{{ " + "not " * 100_000 + "1 }}",
    "signs": "{{ " + "-" * 3_000 + "1 }}",
    "subscripts": "{{ a" + "[0]" * 1_000 + " }}",
    "filters": "{{ a" + " | list" * 1_500 + " }}",
    "conditions": "{% if a %}" * 900 + "{% endif %}" * 900,
    "constants": "{{ 9" + "9" * 100_000 + " }}",
    "hexadecimal constants": "{{ 0x" + "f" * 100_000 + " }}",
    "a constant power": "{{ 9 ** 9 ** 9 ** 9 }}",
    "a constant repetition": "{{ 'a' * 999999999999 }}",
    "a constant join": "{{ ('a' * 1000000) | join('b' * 1000000) }}",
    "many expressions": "{{ a }}" * 20_000,
    "only long": "a" * MAX_SOURCE + "{{ a }}",
    "many assignments": "{% set a = 1 %}" * 20_000,
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_huge_source_is_refused_soon(source: str) -> None:
    begin = time.process_time()
    with pytest.raises(TemplateError):
        compile_template(source, key="context", task="t", file="t.yaml").text({}, 0)
    assert time.process_time() - begin < 2


def test_what_is_within_the_limits_renders() -> None:
    def text(source: str) -> str:
        return compile_template(source, key="context", task="t", file="t.yaml").text(COLUMNS, 0)

    depth = MAX_DEPTH - 10
    assert text("{{ " + " + ".join(["1"] * depth) + " }}") == str(depth)
    assert text("{{ " + " ~ ".join(["1"] * 500) + " }}") == "1" * 500
    assert text("{% if 0 %}" + "{% elif 0 %}" * 300 + "{% else %}x{% endif %}") == "x"
    assert text("{{ long.split() | length }}") == "300000"
    assert text("{{ long | replace('ab', 'c') | upper | trim | length }}") == "599999"
    assert text("{% for row in rows %}{{ row.a }}{% if not loop.last %}, {% endif %}{% endfor %}").endswith(
        "4998, 4999"
    )
    assert text("{{ rows | map(attribute='a') | sum }}") == "12497500"
    assert text("{% for i in range(300) %}{% for j in range(100) %}{{ j }}{% endfor %}{% endfor %}")


GROWING = (
    "doubled text", "doubled list", "nothing replaced", "everything replaced", "joined by a long text",
    "a long text joins", "prefixed", "mapped", "repeated", "summed", "percents", "percents by name",
    "braces", "braces by name", "tabs", "indents", "expanded matches", "long replacements",
    "a block in a loop", "laughs as text",
)  # fmt: skip
MEASURE = """
import json, resource
from lmeval.errors import TemplateError
from lmeval.templates import compile_template
from tests.sandbox.test_work import BOMBS, COLUMNS, GROWING
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in GROWING:
    try:
        compile_template(BOMBS[name], key="context", task="t", file="t.yaml").text(COLUMNS, 0)
    except TemplateError:
        pass
print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux alone")
def test_bombs_take_little_memory() -> None:
    command = [sys.executable, "-c", MEASURE]
    here = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(ran.stdout) < 400  # MiB
