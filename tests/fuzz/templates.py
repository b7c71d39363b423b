"""Templates: what a grammar of them gives, ways out of a sandbox, words put together at random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lmeval.templates import compile_template
from tests.fuzz.kind import Kind, outcome
from tests.fuzz.making import hostile_values, texts

COLUMNS: dict[str, Any] = {
    "text": 'One day, in (a) [far] land; \'tis "so".\n' * 20,
    "long": "ab " * 100_000,
    "n": 7,
    "big": 10**30,
    "ratio": 0.1,
    "none": None,
    "flag": True,
    "items": ["b", "a", "c"] * 30,
    "rows": [{"a": n, "b": str(n)} for n in range(200)],
    "many": list(range(20_000)),
    "nested": [[["x"] * 30] * 30] * 30,
    "answers": {"text": ["x", "y"], "start": [0, 3]},
}
NAMES = (
    *COLUMNS,
    "doc",
    "missing",
    "loop",
    "self",
    "range",
    "namespace",
    "cycler",
    "joiner",
    "lipsum",
    "dict",
    "caller",
)
NUMBERS = (
    "0",
    "1",
    "-1",
    "2",
    "7",
    "1000",
    "99999",
    "10**9",
    "9**9",
    "9**9**9",
    "1e308",
    "0x" + "f" * 40,
    "9" * 60,
)
STRINGS = (
    "''",
    "'a'",
    "' '",
    "'%s'",
    "'%9999d'",
    "'{}'",
    "'{0:>9999}'",
    "'(x+x+)+y'",
    "'%s' * 99",
    "'\\x00\\ud800'",
)
FILTERS = (
    "upper", "length", "list", "join", "join(', ')", "sort", "unique", "list", "map('upper')",
    "map(attribute='a')", "sum", "sum(start=[])", "replace('a', 'bb')", "replace('', 'abcdefgh')", "tojson",
    "tojson(indent=99999)", "string", "int", "int(base=36)", "float", "round", "round(9999999, 'ceil')",
    "first", "last", "reverse", "reject('in', [1])", "select('string')", "title", "dictsort",
    "selectattr('a')", "rejectattr('a', 'eq', 3)", "min", "max", "trim", "truncate(9)", "wordcount",
    "default('x')", "abs", "items", "prefix(' ')", "prefix(long)", "regex_replace('a|b', 'c')",
    "regex_replace('', long)", "regex_replace('(x+x+)+y', '')", "regex_replace('(.*)*$', '\\\\1\\\\1')",
    "wikitext_detokenize", "map('replace', '', 'abc')", "map('prefix', long)", "random", "attr('a')",
    "map('string')", "map('join')", "capitalize", "lower", "sort(attribute='a')", "unique(attribute='b')",
    "count", "d",
)  # fmt: skip
METHODS = (
    "upper()", "split()", "split('a')", "rsplit(' ', 1)", "splitlines()", "join(items)", "join(long)",
    "replace('a', long)", "items()", "keys()", "values()", "get('a')", "index('a')", "count('a')",
    "format(text)", "format_map(doc)", "ljust(99999)", "center(10**8)", "zfill(9999999)",
    "expandtabs(99999)", "encode()", "to_bytes(10**8, 'big')", "bit_length()", "copy()", "append(1)",
    "pop()", "clear()", "translate({97: long})", "strip()", "partition('a')", "__class__", "__len__()",
    "mro()", "fromkeys(many)", "encode('idna')", "title()",
)  # fmt: skip
OPERATORS = (
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "~",
    "==",
    "<",
    "in",
    "not in",
    "and",
    "or",
    "is sameas",
    "is in",
    "if n else",
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(FILTERS)).map(" | ".join),
        st.tuples(inner, st.sampled_from(METHODS)).map(lambda pair: f"({pair[0]}).{pair[1]}"),
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda triple: f"({' '.join(triple)})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]})[{pair[1]}]"),
        st.tuples(inner, inner, inner).map(lambda triple: "({})[{}:{}]".format(*triple)),
        st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]"),
        st.tuples(inner, st.integers(2, 12)).map(lambda pair: f"[{', '.join([pair[0]] * pair[1])}]"),
        st.tuples(inner, inner).map(lambda pair: "{{{}: {}}}".format(*pair)),
        st.tuples(st.sampled_from(("range", "dict", "loop.cycle", "loop.changed", "text.format")), inner).map(
            lambda pair: f"{pair[0]}({pair[1]})"
        ),
    )


expressions = st.recursive(st.sampled_from((*NAMES, *NUMBERS, *STRINGS)), _grow, max_leaves=6)


def _wrap(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(expressions, inner).map(lambda pair: f"{{% for x in {pair[0]} %}}{pair[1]}{{% endfor %}}"),
        st.tuples(expressions, inner).map(
            lambda pair: f"{{% if {pair[0]} %}}{pair[1]}{{% else %}}no{{% endif %}}"
        ),
        st.tuples(expressions, inner).map(lambda pair: f"{{% set text = {pair[0]} %}}{pair[1]}"),
        st.tuples(expressions, inner).map(lambda pair: (f"{{% set text = {pair[0]} %}}" * 40) + pair[1]),
        inner.map(lambda body: f"{{% set text %}}{body}{{% endset %}}{{{{ text }}}}"),
        st.tuples(st.sampled_from(FILTERS), inner).map(
            lambda pair: f"{{% filter {pair[0]} %}}{pair[1]}{{% endfilter %}}"
        ),
        st.tuples(inner, inner).map("".join),
    )


templates = st.recursive(
    st.one_of(expressions.map(lambda text: f"{{{{ {text} }}}}"), texts.filter(lambda t: "{" not in t)),
    _wrap,
    max_leaves=4,
)

WORDS = (
    "{{", "}}", "{%", "%}", "{#", "#}", "{%-", "-%}", "{{-", "for", "in", "endfor", "if", "elif", "else",
    "endif", "set", "endset", "raw", "endraw", "macro", "call", "filter", "block", "include", "import",
    "extends", "with", "autoescape", "do", "trans", "recursive", "x", "text", "n", "(", ")", "[", "]", "{",
    "}", ",", ":", ".", "|", "~", "**", "'", '"', "=", "==", "not", "is", "1", "9" * 5_000, "1e9", "\\",
    "\n", "\0", "é", "#", "##", "__class__", "_", "loop", "namespace()", "ns.a", "0b", "1_0", "0xg", "1.",
    ".5", "\u2028",
)  # fmt: skip


def rendered(source: str, columns: dict[str, Any]) -> str:
    """What comes of a template by both ways to render it."""

    def make() -> None:
        template = compile_template(source, key="context", task="hostile", file="hostile.yaml")
        try:
            template.text(columns, 0)
        finally:
            value = template.value(columns, 0)
            assert len(json.dumps(value, default=str)) < 50_000_000

    return outcome(make, "hostile.yaml")


# ---- ways out ----

BASES = (
    "''", "()", "[]", "{}", "0", "1.5", "none", "true", "text", "items", "doc", "missing", "range", "self",
    "loop", "cycler", "joiner", "namespace", "lipsum", "dict", "config", "request", "caller", "varargs",
    "kwargs", "super", "url_for", "get_flashed_messages", "x", "(items | map('upper'))", "text.upper",
    "text.format", "text.format_map", "items.append", "doc.keys()", "doc.items", "range(3)",
    "(text | list)", "''.join", "loop.cycle", "loop.changed", "(items | select)",
    "(rows | map(attribute='a'))", "self.context",
)  # fmt: skip
STEPS = (
    "__class__", "__mro__", "__base__", "__bases__", "__subclasses__()", "__init__", "__globals__",
    "__builtins__", "__import__('os')", "__dict__", "__self__", "__func__", "__code__", "__closure__",
    "__wrapped__", "__call__", "__getattribute__('__class__')", "__reduce_ex__(4)", "__format__('')",
    "__doc__", "__module__", "__name__", "gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_code",
    "ag_frame", "ag_code", "f_globals", "f_builtins", "f_back", "f_locals", "tb_frame", "mro()",
    "popen('id')", "system('id')", "read()", "format", "format_map", "environment", "overlay()",
    "from_string('x')", "_env", "_context", "_TemplateReference__context", "mapping", "os", "sys",
    "modules", "eval('1')", "exec('1')", "co_consts", "func_globals", "im_func", "get", "items()", "keys()",
    "values()",
)  # fmt: skip
FORMATS = (
    "'{0.__class__}'.format(%s)", "'{a.__class__.__mro__}'.format(a=%s)", "'{0[__class__]}'.format(%s)",
    "'{a.__init__}'.format_map({'a': %s})", "(text ~ '{0.__class__}').format(%s)",
    "'{0!r:.9}{0.__doc__}'.format(%s)", "{'f': '{0.__class__}'.format}['f'](%s)",
    "('{0.__class__}'.format, 1)[0](%s)", "['{0.__class__}'] | map('format', %s) | list",
    "[%s] | map(attribute='__class__') | list", "[%s] | map(attribute='__class__.__mro__') | first",
    "[%s] | selectattr('__class__') | list", "[%s] | rejectattr('__class__') | list",
    "[%s] | sum(attribute='__class__')", "[%s] | sort(attribute='__class__')",
    "[%s] | unique(attribute='__class__') | list", "[%s] | groupby('__class__')",
    "[%s] | min(attribute='__class__')", "(%s) | attr('__class__')",
    "[%s] | map('attr', '__class__') | list", "{'a': %s} | xmlattr",
    "{'__class__': %s} | items | list | first | first | attr('x')", "(%s) | pprint", "(%s) | format",
    "'%%(a)s' | format(a=%s)", "(%s) | batch(3) | list", "(%s) is callable and (%s)()", "(%s)['__class__']",
    "(%s)['__cla' ~ 'ss__']", "(%s)['\\x5f\\x5fclass\\x5f\\x5f']", "(%s)[['__class__'] | first]",
    "(%s)['_' * 2 + 'class' + '_' * 2]", "dict(a=%s).update(b=1)", "namespace(a=%s).a.__class__",
    "cycler(%s).next.__globals__", "joiner(%s).__init__", "(%s)()", "(%s)(%s)", "range(%s)",
)  # fmt: skip
escapes = st.one_of(
    st.tuples(st.sampled_from(BASES), st.lists(st.sampled_from(STEPS), min_size=1, max_size=5)).map(
        lambda pair: ".".join((pair[0], *pair[1]))
    ),
    st.tuples(st.sampled_from(BASES), st.lists(st.sampled_from(STEPS), min_size=1, max_size=4)).map(
        lambda pair: pair[0] + "".join(f"['{step.partition('(')[0]}']" for step in pair[1])
    ),
    st.tuples(st.sampled_from(FORMATS), st.sampled_from(BASES), st.sampled_from(("", *STEPS))).map(
        lambda triple: triple[0].replace("%s", triple[1]) + (f".{triple[2]}" if triple[2] else "")
    ),
).flatmap(
    lambda text: st.sampled_from(
        (
            f"{{{{ {text} }}}}",
            f"{{% for x in items %}}{{{{ {text} }}}}{{% endfor %}}",
            f"{{% set x = {text} %}}{{{{ x }}}}",
            f"{{{{ ({text}) | string }}}}",
            f"{{{{ '' ~ ({text}) }}}}",
            f"{{{{ '%s' % (({text}),) }}}}",
            f"{{{{ [{text}] | join }}}}",
            f"{{% for x in {text} %}}{{{{ x }}}}{{% endfor %}}",
            f"{{% if {text} %}}yes{{% endif %}}",
        )
    )
)
LEAKS = (
    "<class",
    "<function",
    "<built-in",
    "<module",
    "<frame",
    "<code",
    "<slot",
    "<method",
    "<bound",
    "object at 0x",
    "root:x:",
)
SMALL: dict[str, Any] = {"text": "a", "items": ["a", "b"], "rows": [{"a": 1}]}


def held(source: str, folder: Path) -> str:
    """A way out: whatever it renders to, nothing of Python shows, and the columns stay what they are."""
    columns = json.loads(json.dumps(SMALL))
    given: list[str] = []

    def make() -> None:
        template = compile_template(source, key="context", task="hostile", file="hostile.yaml")
        given.append(str(template.text(columns, 0)))
        given.append(repr(template.value(columns, 0)))

    found = outcome(make, "hostile.yaml")
    assert columns == SMALL
    for text in given:
        assert not [leak for leak in LEAKS if leak in text], text[:300]
    return found


TEMPLATE_KINDS = {
    "templates": Kind(templates, lambda source, folder: rendered(source, COLUMNS), share=6),
    "template words": Kind(
        st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join),
        lambda source, folder: rendered(source, COLUMNS),
        share=2,
    ),
    "template columns": Kind(
        st.tuples(
            templates,
            st.dictionaries(
                st.sampled_from((*COLUMNS, "a", "doc", "self", "loop", "")), hostile_values, max_size=6
            ),
        ),
        lambda pair, folder: rendered(pair[0], pair[1]),
        share=2,
    ),
    "sandbox escapes": Kind(escapes, held, share=6),
}
