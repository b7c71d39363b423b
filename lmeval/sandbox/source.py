"""A template's source: bounded before it is parsed, and its loops, comparisons and slices made to count themselves."""

from __future__ import annotations

from itertools import islice
from typing import Any

import jinja2
from jinja2 import nodes

from lmeval.sandbox.environment import ENVIRONMENT
from lmeval.sandbox.meter import CALL, begin

MAX_SOURCE = 200_000  # characters of one template
MAX_TOKENS = 4_000  # of its expressions and statements; its plain text is one each
MAX_DEPTH = 50  # brackets, operators and statements inside one another
MAX_LOOP_DEPTH = 2
_A_TEMPLATE = 20  # tokens: what compiling takes beside them

_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.ScopedEvalContextModifier: "autoescape",
    nodes.EvalContextModifier: "autoescape",
}


def parsed(source: str) -> nodes.Template:
    """The tree of a template that is small enough and uses nothing that the sandbox does not have.

    Raises:
        jinja2.TemplateSyntaxError: It is not.
    """
    begin()  # constants are computed while a template is compiled
    if len(source) > MAX_SOURCE:
        raise _error(f"it has {len(source):,} characters; allowed are {MAX_SOURCE:,}", 1)
    tokens = _tokens(source)
    if len(tokens) > MAX_TOKENS:
        raise _error(f"it has more than {MAX_TOKENS:,} words and signs in its expressions", tokens[-1][0])
    for line, kind, text in tokens:
        if kind == "integer" and len(text) > 100:
            raise _error("a number of more than 100 digits is not allowed", line)
    try:
        tree = ENVIRONMENT.parse(source)
        _refuse(tree, 0, 0)
    except RecursionError:
        raise _error(f"expressions more than {MAX_DEPTH} deep are not allowed", 1) from None
    return tree


def _tokens(source: str, limit: int = MAX_TOKENS) -> list[tuple[int, str, str]]:
    """The words and signs, at most one more than the limit."""
    found = (token for token in ENVIRONMENT.lexer.tokeniter(source, None) if token[1] != "whitespace")
    return list(islice(found, limit + 1))


def count_tokens(source: str, limit: int) -> int:
    """What compiling a template costs: its words and signs, and as much again as a small one has.

    What is no template counts, too, as far as it looks like one; counting stops at the limit.
    """
    try:
        return _A_TEMPLATE + len(_tokens(source, limit))
    except (jinja2.TemplateSyntaxError, ValueError):
        return _A_TEMPLATE


def _error(what: str, line: int) -> jinja2.TemplateSyntaxError:
    return jinja2.TemplateSyntaxError(what, line)


def _refuse(node: nodes.Node, depth: int, loops: int) -> None:
    if type(node) in _REFUSED:
        raise _error(f"{{% {_REFUSED[type(node)]} %}} is not allowed", node.lineno)
    if depth > MAX_DEPTH:
        raise _error(f"expressions more than {MAX_DEPTH} deep are not allowed", node.lineno)
    if isinstance(node, nodes.For):
        loops += 1
        if node.recursive or loops > MAX_LOOP_DEPTH:
            raise _error(f"loops more than {MAX_LOOP_DEPTH} deep are not allowed", node.lineno)
    for child in node.iter_child_nodes():
        _refuse(child, depth + 1, loops)


# ---- a tree that counts itself ----


def prepared(tree: nodes.Template) -> nodes.Template:
    """The tree, what the sandbox has no hook for led through filters that charge it; see `filters.INSERTED`."""
    count_themselves(tree)
    tree.set_environment(ENVIRONMENT)
    return tree


def count_themselves(node: nodes.Node) -> None:
    """Lead what stands below a node through the filters that charge it."""
    for name in node.fields:
        value = getattr(node, name)
        if isinstance(value, list):
            setattr(node, name, [_replaced(item) if isinstance(item, nodes.Node) else item for item in value])
        elif isinstance(value, nodes.Node):
            setattr(node, name, _replaced(value))


def _replaced(node: Any) -> Any:
    cost = _step_cost(node) if isinstance(node, nodes.For) else 0  # of the body as it is written
    count_themselves(node)
    if isinstance(node, nodes.For):
        node.iter = _through("~looped", node.iter, nodes.Const(cost, lineno=node.lineno))
    elif isinstance(node, nodes.Concat):
        return _through("~concatenated", *node.nodes)
    elif isinstance(node, nodes.Compare):
        node.expr = _through("~weighed", node.expr)
    elif isinstance(node, nodes.Operand):
        node.expr = _through("~searched" if node.op in ("in", "notin") else "~weighed", node.expr)
    elif isinstance(node, nodes.Pair):
        node.key = _through("~weighed", node.key)  # it will be hashed
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _through("~sliced", node)
    return node


def _through(name: str, expression: Any, *more: nodes.Expr) -> Any:
    if isinstance(expression, nodes.Const) and not more:
        return expression
    return nodes.Filter(expression, name, list(more), [], None, None, lineno=expression.lineno)


def _step_cost(loop: nodes.For) -> int:
    """Units of one step: what stands in the loop, without what its operators and calls charge themselves."""
    inside = [
        node
        for part in (*loop.body, loop.test)
        if part is not None
        for node in (part, *part.find_all(nodes.Node))
    ]
    words = sum(len(node.data) for node in inside if isinstance(node, nodes.TemplateData))
    return CALL + 5 * len(inside) + words
