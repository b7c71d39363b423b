"""The published ways out of Jinja's sandbox, and their kin: every one is a TemplateError, at compile time or later."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from lmeval.errors import TemplateError
from lmeval.sandbox.environment import ATTRIBUTES, ENVIRONMENT
from lmeval.templates import compile_template

COLUMNS: dict[str, Any] = {"text": "a", "items": ["a", "b"], "row": {"k": [1]}, "n": 3}

FORMATS = {  # str.format looks attributes up by itself
    "CVE-2016-10745": "{{ '{0.__class__}'.format(n) }}",
    "CVE-2016-10745, by name": "{{ '{it.__class__.__mro__}'.format(it=text) }}",
    "CVE-2016-10745, conversion": "{{ '{0.real.__class__!r:>20}'.format(n) }}",
    "CVE-2019-10906": "{{ '{it.__class__}'.format_map({'it': n}) }}",
    "CVE-2019-10906, nested": "{{ '{row[k].__class__}'.format_map(doc) }}",
    "CVE-2024-56326, kept": "{% set f = '{0.__class__}'.format %}{{ f(n) }}",
    "CVE-2024-56326, in a list": "{{ ['{0.__class__}'.format][0](n) }}",
    "CVE-2024-56326, in a mapping": "{{ {'f': '{0.__class__}'.format_map}.f({'0': n}) }}",
    "CVE-2024-56326, to a filter": "{{ ['{0.__class__}'] | map(attribute='format') | map('call', n) | list }}",
    "CVE-2024-56326, chosen": "{{ ('{0.__class__}'.format or 1)(n) }}",
    "CVE-2025-27516": "{{ ('{0.__class__}' | attr('format'))(n) }}",
    "CVE-2025-27516, mapped": "{{ (['{0.__class__}'] | map('attr', 'format') | first)(n) }}",
    "by attribute of map": "{{ (['{0.__class__}'] | map(attribute='format') | first)(n) }}",
    "by subscript": "{{ '{0.__class__}'['format'](n) }}",
    "put together": "{{ ('{0.__cl' ~ 'ass__}').format(n) }}",
    "of a joined text": "{{ ['{0._', '_class__}'] | join | string | first }}{{ (['{0.__class__}'] | join).format(n) }}",
    "of a translated text": "{{ '{0.XXclassXX}'.replace('X', '_').format(n) }}",
    "index of a method": "{{ '{0[__class__]}'.format(text.upper) }}",
}
CHAINS = {  # from a value to its class, and from there to everything
    "class": "{{ text.__class__ }}",
    "mro": "{{ ().__class__.__mro__ }}",
    "base": "{{ [].__class__.__base__ }}",
    "subclasses": "{{ {}.__class__.__base__.__subclasses__() }}",
    "mro without underscores": "{{ n.__class__.mro() }}",
    "by subscript": "{{ text['__class__'] }}",
    "by subscript, put together": "{{ text['__cla' ~ 'ss__'] }}",
    "by subscript, escaped": r"{{ text['\x5f\x5fclass\x5f\x5f'] }}",
    "by subscript, repeated": "{{ text['_' * 2 + 'class' + '_' * 2] }}",
    "by subscript, from a column": "{{ text[('__class__',) | first] }}",
    "by subscript, reversed": "{{ text['__ssalc__' | reverse] }}",
    "by subscript, formatted": "{{ text['%sclass%s' % ('__', '__')] }}",
    "attr filter": "{{ text | attr('__class__') }}",
    "map attribute": "{{ [text] | map(attribute='__class__') | list }}",
    "map attribute, dotted": "{{ [row] | map(attribute='k.__class__') | list }}",
    "selectattr": "{{ [text] | selectattr('__class__') | list }}",
    "rejectattr": "{{ [text] | rejectattr('__class__') | list }}",
    "sort attribute": "{{ items | sort(attribute='__class__') }}",
    "unique attribute": "{{ [text] | unique(attribute='__class__') | list }}",
    "min attribute": "{{ items | min(attribute='__class__') }}",
    "sum attribute": "{{ [text] | sum(attribute='__class__') }}",
    "groupby": "{{ [text] | groupby('__class__') }}",
    "xmlattr": "{{ {'a b': text} | xmlattr }}",
    "pprint": "{{ text | pprint }}",
    "globals of a method": "{{ text.upper.__globals__ }}",
    "self of a method": "{{ text.upper.__self__.__class__ }}",
    "globals of range": "{{ range.__globals__['__builtins__'] }}",
    "call of range": "{{ range.__call__(3) }}",
    "wrapped of range": "{{ range.__wrapped__ }}",
    "format's own environment": "{{ text.format.environment }}",
    "format's globals": "{{ text.format.__globals__ }}",
    "format's wrapper": "{{ text.format.__wrapped__ }}",
    "doc": "{{ doc.items.__self__ }}",
    "bit tricks": "{{ n.to_bytes(10, 'big') }}",
    "codecs": "{{ text.encode('idna') }}",
    "numbers": "{{ n.real.__class__ }}",
}
NAMES = {  # what other environments have
    "self": "{{ self.__init__.__globals__ }}",
    "self's context": "{{ self._TemplateReference__context.environment }}",
    "cycler": "{{ cycler('a').next.__globals__ }}",
    "joiner": "{{ joiner.__init__.__globals__.os }}",
    "namespace": "{{ namespace(a=1).__init__.__globals__ }}",
    "namespace set": "{% set ns = namespace() %}{% set ns.a = 1 %}",
    "set on a column": "{% set row.k = 1 %}",
    "lipsum": "{{ lipsum.__globals__['os'] }}",
    "dict": "{{ dict.fromkeys(items) }}",
    "config": "{{ config.items() }}",
    "request": "{{ request.application.__globals__ }}",
    "get_flashed_messages": "{{ get_flashed_messages.__globals__ }}",
    "import": "{{ __import__('os').popen('id').read() }}",
    "builtins": "{{ __builtins__ }}",
    "environment": "{{ environment }}",
    "context": "{{ context.environment }}",
    "super": "{{ super() }}",
    "caller": "{{ caller.__code__ }}",
    "varargs": "{{ varargs[0] }}",
    "macro": "{% macro m() %}{{ varargs }}{% endmacro %}{{ m.__globals__ }}",
    "call block": "{% call items() %}x{% endcall %}",
    "block": "{% block b %}{{ self.b.__init__ }}{% endblock %}",
    "include": "{% include ['/etc/passwd', 'x{0.__class__}'] %}",
    "import a file": "{% from '/etc/passwd' import x %}",
    "extends": "{% extends text %}",
    "autoescape": "{% autoescape true %}{{ text }}{% endautoescape %}",
    "do": "{% do items.append(1) %}",
    "debug": "{% debug %}",
    "trans": "{% trans %}x{% endtrans %}",
    "line statement": "{% set _ = items.__iter__() %}{{ _ }}",
}
FRAMES = {  # generators, coroutines, frames, loops
    "gi_frame": "{{ (items | map('upper')).gi_frame.f_back.f_globals }}",
    "gi_code": "{{ (items | select).gi_code }}",
    "gi_yieldfrom": "{{ (items | reject('none')).gi_yieldfrom }}",
    "gi_frame by subscript": "{{ (items | map('upper'))['gi_frame'] }}",
    "gi_frame by attribute": "{{ [items | map('upper')] | map(attribute='gi_frame') | list }}",
    "send": "{{ (items | map('upper')).send(none) }}",
    "throw": "{{ (items | map('upper')).throw(text) }}",
    "cr_frame": "{{ (items | list).cr_frame }}",
    "ag_frame": "{{ (items | map('upper')).ag_frame }}",
    "loop": "{% for i in items %}{{ loop.__class__ }}{% endfor %}",
    "loop's iterator": "{% for i in items %}{{ loop._iterator }}{% endfor %}",
    "loop's undefined": "{% for i in items %}{{ loop._undefined }}{% endfor %}",
    "loop called": "{% for i in items %}{{ loop(items) }}{% endfor %}",
    "loop.cycle's globals": "{% for i in items %}{{ loop.cycle.__func__.__globals__ }}{% endfor %}",
    "an undefined's class": "{{ (missing | default(text)).__class__ }}",
    "an undefined's secrets": "{{ missing._undefined_exception }}",
    "calling a column": "{{ text() }}",
    "calling a number": "{{ (1)() }}",
    "calling a filter's result": "{{ (items | map('upper'))() }}",
}
CHANGES = {  # the columns are everyone's
    "append": "{{ items.append(1) }}",
    "append by subscript": "{{ items['append'](1) }}",
    "extend": "{{ items.extend(items) }}",
    "sort": "{{ items.sort() }}",
    "pop": "{{ row.pop('k') }}",
    "update": "{{ row.update(a=1) }}",
    "update of all": "{{ doc.update({'text': 'x'}) }}",
    "setdefault": "{{ row.setdefault('a', 1) }}",
    "clear": "{{ doc.clear() }}",
    "by map": "{{ ([items] | map(attribute='pop') | first)() }}",
    "of a view": "{{ doc.keys().mapping }}",
    "inner list": "{{ row.k.insert(0, 1) }}",
    "added in place": "{% set x = items %}{% set _ = x.__iadd__([1]) %}",
}
WAYS = {
    f"{group}: {name}": source
    for group, ways in (
        ("format", FORMATS), ("chain", CHAINS), ("name", NAMES), ("frame", FRAMES), ("change", CHANGES)
    )
    for name, source in ways.items()
}  # fmt: skip


def render(source: str, columns: dict[str, Any], as_value: bool) -> object:
    template = compile_template(source, key="context", task="t", file="t.yaml")
    return template.value(columns, 0) if as_value else template.text(columns, 0)


@pytest.mark.parametrize("source", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("as_value", [False, True], ids=["text", "value"])
def test_no_published_way_out_works(source: str, as_value: bool) -> None:
    columns = copy.deepcopy(COLUMNS)
    with pytest.raises(TemplateError) as caught:
        render(source, columns, as_value)
    assert "t.yaml" in str(caught.value)
    assert columns == COLUMNS


@pytest.mark.parametrize("name", ['a.yaml"\nimport os #', "{0.__class__}.yaml", "'''{% x %}"])
def test_a_files_name_is_never_part_of_code(name: str) -> None:
    """CVE-2024-56201: a template's name was formatted into the code that Jinja writes."""
    with pytest.raises(TemplateError, match="is not allowed"):
        compile_template('{% include "{0.__class__}" %}', key=name, task=name, file=name)
    assert compile_template("{{ n }}", key=name, task=name, file=name).text(COLUMNS, 0) == "3"


def test_only_these_names_are_reachable() -> None:
    """A release of Jinja that brings a filter, a test or a global brings nothing into templates."""
    assert set(ENVIRONMENT.globals) == {"range"}
    assert not {"attr", "xmlattr", "format", "pprint", "groupby", "random", "safe", "escape"} & set(
        ENVIRONMENT.filters
    )
    assert not {"callable", "filter", "test", "escaped"} & set(ENVIRONMENT.tests)
    assert not ENVIRONMENT.extensions
    for _, names in ATTRIBUTES:
        assert not [name for name in names if name.startswith("_")]


@pytest.mark.parametrize("inner", ["text.upper", "items | map('upper')", "range", "range(2)", "doc.keys()"])
def test_what_would_be_printed_as_python_is_refused(inner: str) -> None:
    with pytest.raises(TemplateError, match="gives what is of type"):
        render(f"{{{{ {inner} }}}}", COLUMNS, as_value=False)


def test_json_is_plain_text() -> None:
    """Jinja's `tojson` gives a text that escapes what is added to it."""
    template = compile_template("{{ (row | tojson) + '<b>' }}", key="context", task="t", file="t.yaml")
    assert template.text(COLUMNS, 0) == json.dumps(COLUMNS["row"]) + "<b>"
