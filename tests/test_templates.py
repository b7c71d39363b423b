from __future__ import annotations

import time
from typing import Any

import pytest

from lmeval.errors import TemplateError
from lmeval.sandbox import begin
from lmeval.sandbox.environment import MAX_CHARACTERS, MAX_RANGE
from lmeval.sandbox.filters import prefix, regex_replace, wikitext_detokenize
from lmeval.templates import Template, compile_template

COLUMNS = {
    "text": "naïve 日本語 🙂",
    "n": 3,
    "none": None,
    "items": ["a", "b"],
    "answers": {"text": ["x"], "start": [0]},
    "two words": "spaced",
}


def make(source: str) -> Template:
    return compile_template(source, key="context", task="mytask", file="dir/t.yaml")


def render(source: str, **columns: Any) -> str:
    return make(source).text(columns or COLUMNS, 7)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ text }}", "naïve 日本語 🙂"),
        ("Q: {{ text }}\n", "Q: naïve 日本語 🙂\n"),  # the last line end stays
        (" {{ n }} ", " 3 "),
        ("no template", "no template"),
        ("", ""),
        ("{{ text.split(' ')[1] }}", "日本語"),
        ("{{ answers.text[0] }}", "x"),
        ("{{ answers['start'][0] }}", "0"),
        ("{{ doc['two words'] }}", "spaced"),
        ("{{ items | join(', ') }}", "a, b"),
        ("{{ none or 'nothing' }}", "nothing"),
        ("{{ missing | default('x') }}", "x"),
        ("{% for i in items %}{{ loop.index }}. {{ i }}\n{% endfor %}", "1. a\n2. b\n"),
        ("{% set x = n * 2 %}{{ x }}", "6"),
        ("{{ '%.2f' % n }}", "3.00"),
        ("{{ '%d people' % 1234567 }}", "1234567 people"),
        ("{{ '{:,}'.format(1234567) }}", "1,234,567"),
        ("{{ 'a {1234567} %1234567d'.replace('a', 'b') }}", "b {1234567} %1234567d"),
        ("{{ 'x'.ljust(3) }}|", "x  |"),
        ("{{ '-' * n }}", "---"),
        ("{{ 2 ** 10 }}", "1024"),
        ("{{ '<b>' }}", "<b>"),  # nothing is escaped
        ("{{ range(3) | join }}", "012"),
        ("{{ text | regex_replace('\\\\p{Han}+', '*') }}", "naïve * 🙂"),
    ],
)
def test_rendering(source: str, text: str) -> None:
    assert render(source) == text


def test_columns_are_not_taken_for_templates() -> None:
    assert render("{{ text }}", text="{{ 7 * 7 }} {% x %}") == "{{ 7 * 7 }} {% x %}"


def test_a_column_may_have_the_name_of_anything() -> None:
    assert render("{{ doc }} {{ range }} {{ context }}", doc="a", range="b", context="c") == "a b c"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ items }}", ["a", "b"]),
        ("{{ answers.text }}", ["x"]),
        ("{{ items | prefix(' ') }}", [" a", " b"]),
        ("{{ items | map('upper') }}", ["A", "B"]),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ [text, 'b'] }}", ["naïve 日本語 🙂", "b"]),
        ("{{ n }}", 3),
        ("{{ n > 2 }}", True),
        ("{{ '007' }}", "007"),  # a text stays one, whatever it looks like
        ("{{ '[1, 2]' }}", "[1, 2]"),
        (" {{ n }}", " 3"),
        ("{% if n %}1{% endif %}", "1"),
        ("plain", "plain"),
        ("{{ none }}", None),
    ],
)
def test_the_value_of_a_single_expression_keeps_its_kind(source: str, value: Any) -> None:
    result = make(source).value(COLUMNS, 0)
    assert result == value
    assert type(result) is type(value)


# ---- errors ----


@pytest.mark.parametrize("as_value", [False, True])
def test_a_missing_column_is_named_with_those_that_are_there(as_value: bool) -> None:
    template = make("{{ txt }}")
    with pytest.raises(TemplateError) as caught:
        (template.value if as_value else template.text)({"text": "a", "label": 0}, 7)
    assert caught.value.what == (
        'The template "context" does not render: column \'txt\' is not there. Did you mean "text"? '
        "Columns are: text, label."
    )
    assert caught.value.where == "task mytask, document 7, key context in dir/t.yaml"


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{{ answers.txt }}", "'dict object' has no attribute 'txt'"),
        ("{{ items[5] }}", "has no element 5"),
        ("{% if missing %}x{% endif %}", "column 'missing' is not there"),
        ("{{ missing.text }}", "column 'missing' is not there"),
        ("{% for i in missing %}{% endfor %}", "column 'missing' is not there"),
        ("{{ 'a' ~ missing }}", "column 'missing' is not there"),
        ("{{ none }}", "gives null"),
        ("{{ items }}", "gives a list or a mapping"),
        ("{{ answers }}!", "gives a list or a mapping"),
        ("{{ n / 0 }}", "division by zero"),
        ("{{ items.index('z') }}", "'z' is not in list"),
        ("{{ n.upper() }}", "has no attribute 'upper'"),
        ("{{ text | regex_replace('(', 'x') }}", "missing )"),
    ],
)
def test_what_does_not_render(source: str, what: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert what in caught.value.what
    assert caught.value.where == "task mytask, document 7, key context in dir/t.yaml"


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{{ text", "unexpected end of template"),
        ("line\n{% if x %}", "in its line 2"),
        ("{{ text | regexreplace('a') }}", 'Did you mean "regex_replace"?'),
        ("{{ items | random }}", "No filter named 'random'"),
        ("{{ 'x' | center(9) }}", "No filter named 'center'"),
        ("{% include '/etc/passwd' %}", "{% include %} is not allowed"),
        ("{% import 'x' as x %}", "{% import %} is not allowed"),
        ("{% extends 'x' %}", "{% extends %} is not allowed"),
        ("{% macro f() %}{{ f() }}{% endmacro %}", "{% macro %} is not allowed"),
        ("{% for a in items recursive %}{{ loop(items) }}{% endfor %}", "loops more than"),
        (
            "{% for a in x %}{% for b in x %}{% for c in x %}{% endfor %}{% endfor %}{% endfor %}",
            "loops more than 2 deep",
        ),
        ("{% debug %}", "unknown tag 'debug'"),
    ],
)
def test_what_is_no_template(source: str, what: str) -> None:
    with pytest.raises(TemplateError) as caught:
        make(source)
    assert what in caught.value.what
    assert caught.value.where == "task mytask, key context in dir/t.yaml"


def test_an_unknown_filter_lists_those_there_are() -> None:
    with pytest.raises(TemplateError) as caught:
        make("{{ x | nope }}")
    assert caught.value.fix is not None
    assert "join, last, length" in caught.value.fix


# ---- the sandbox ----


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ () | map(attribute='__class__') | list }}{{ [''] | map(attribute='__class__') | list | first }}",
        "{{ ''.format.__globals__ }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ '{0.__class__.__mro__}'.format_map({'0': ''}) }}",
        "{{ range.__globals__ }}",
        "{{ range.__code__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ config }}",
        "{{ (doc | map('upper') | list).__class__ }}",
        "{{ items.append('x') }}",
        "{{ doc.update({'a': 1}) }}",
        "{{ doc.clear() }}",
        "{{ loop.__class__ }}",
        "{% for i in items %}{{ loop.__class__ }}{% endfor %}",
        "{{ doc.keys().mapping.update }}{{ doc.keys().mapping.__class__ }}",
        "{{ (items | map('upper')).gi_frame }}",
        "{{ text.encode.__self__.__class__ }}",
        "{{ ['x'] | map('attr', '__class__') | list }}",
        "{{ 'x' | attr('__class__') }}",
        "{{ [text] | groupby('__class__') }}",
        "{{ [text] | sum(attribute='__class__') }}",
        "{{ [text] | map(attribute='__class__.__name__') | list }}",
        "{{ open('/etc/passwd').read() }}",
        "{{ __import__('os') }}",
    ],
)
def test_no_way_out_of_the_sandbox(source: str) -> None:
    columns = {"text": "a", "items": ["a", "b"]}
    with pytest.raises(TemplateError):
        compile_template(source, key="context", task="t", file="f").text(columns, 0)
    with pytest.raises(TemplateError):
        compile_template(source, key="context", task="t", file="f").value(columns, 0)
    assert columns == {"text": "a", "items": ["a", "b"]}


@pytest.mark.parametrize(
    "source",
    [
        f"{{{{ range({MAX_RANGE + 1}) | join }}}}",
        "{{ range(10 ** 9) | list }}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 9 * 'x' }}",
        "{{ [0] * 10 ** 9 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 999999999) }}",
        "{{ 'x'.ljust(999999999) }}",
        "{{ 'x'.center(999999999) }}",
        "{{ 'x'.zfill(999999999) }}",
        "{{ 'x\t'.expandtabs(tabsize=999999999) }}",
        "{% for i in range(1000) %}{% for j in range(1000) %}xx{% endfor %}{% endfor %}",
        "{{ text | regex_replace('(x+x+)+y', '') }}",
    ],
)
def test_runaway_templates_are_stopped(source: str) -> None:
    begin = time.process_time()
    with pytest.raises(TemplateError):
        make(source).text({"text": "x" * 5000}, 0)
    assert time.process_time() - begin < 3


def test_long_texts_are_fine_up_to_the_limit() -> None:
    assert len(render("{{ text }}", text="x" * MAX_CHARACTERS)) == MAX_CHARACTERS
    with pytest.raises(TemplateError, match="gives more than 1,000,000 characters"):
        render("{{ text }}!", text="x" * MAX_CHARACTERS)


# ---- filters ----


def test_prefix() -> None:
    assert prefix(["a", 1], " ") == [" a", " 1"]
    assert prefix("a", " ") == " a"


def test_regex_replace() -> None:
    begin()
    assert regex_replace("a1b22", "[0-9]+", "#") == "a#b#"
    assert regex_replace("John Smith", r"(\w+) (\w+)", r"\2, \1") == "Smith, John"
    assert regex_replace(" a  b ", r"\s+") == "ab"


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (" = Homarus gammarus = \n ", "= Homarus gammarus =\n"),
        ("a 24 @-@ year @-@ old , with 1 @,@ 000 and 2 @.@ 5 .", "a 24-year-old, with 1,000 and 2.5 ."),
        ("( 24 in ) and [ x ]", "(24 in) and [x]"),
        ('he said " lobster red " .\n', 'he said "lobster red" .\n'),
        ("the dog 's bone ; so : it is ! yes ? no", "the dog's bone; so: it is! yes? no"),
        (" = = Early life = = \n", "== Early life ==\n"),
        ("5 ° C", "5°C"),
        ("plain text", "plain text"),
    ],
)
def test_wikitext_detokenize(tokens: str, text: str) -> None:
    begin()
    assert wikitext_detokenize(tokens).lstrip(" ") == text


def test_pieces_tell_what_columns_wrote_from_the_templates_own_words() -> None:
    template = compile_template(
        "Q: {{ q }}{% for a in l %}\n{{ loop.index }}. {{ a | upper }}{% endfor %}{{ '!' }}\nA:",
        key="context",
        task="t",
        file="f",
    )
    pieces = template.pieces({"q": "why", "l": ["a", "b"]}, 0)
    assert [text for text, written in pieces if written] == ["why", "1", "A", "2", "B"]
    assert "".join(text for text, _ in pieces) == "Q: why\n1. A\n2. B!\nA:"
    assert {type(text) for text, _ in pieces} == {str}
