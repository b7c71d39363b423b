"""A start without what transformers imports and an evaluation on a CPU never calls.

transformers 5 imports, for decorators of one line each, torch's compiler (and with it sympy's algebra), the tensors of
distributed training, and SciPy's optimizers for the losses of object detection: more than a third of the time in which
torch, transformers and a Llama are there (bench/RESULTS.md). While transformers is imported and weights are loaded, the
three are stood in for; afterwards, and as soon as more than such a mark is asked of them, they are the real ones.
So is sympy, which torch asks of each size of a tensor without memory whether it is a symbol: none is. And over a
thousand patterns by which tensors of other architectures are renamed are not compiled. What transformers' files export
is read once an installation (import_structure.py).

What it costs: functions of transformers keep no mark for a compiler, and know no distributed tensors. So this is for a
process that is ours alone, runs no compiler and is one of one: `own_process` is called by the command line, not by
those who use lmeval as a library.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, ClassVar

from lmeval.engine.import_structure import KeepingImportStructure

COMPILER = "torch._dynamo"
INDEXING = f"{COMPILER}._trace_wrapped_higher_order_op"
ALGEBRA, SHAPES = "sympy", "torch.fx.experimental.symbolic_shapes"
UNUSED = ("is_torch_distributed_available", "is_scipy_available")
# What the model classes share: a Llama's module imports what nearly every other one does
SHARED = ("transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama")
RENAMING = "transformers.core_model_loading"
# Objects made, less those freed, between two looks for garbage. At Python's 700, imports that only ever add objects
# are a quarter slower; of 10,000 and more none was faster than another.
OBJECTS_BETWEEN_LOOKS = 10_000

_process = {"ours": False}


def own_process() -> None:
    """Say that nothing else in this process uses torch or transformers; before either is imported."""
    _process["ours"] = True
    if "transformers" not in sys.modules:
        sys.meta_path.insert(0, KeepingImportStructure())
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS, *gc.get_threshold()[1:])
    # code for 1,024 shapes, as oneDNN would keep it, is hundreds of megabytes; the layers of a row ask for some twenty
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def is_own_process() -> bool:
    """Whether `own_process` was called."""
    return _process["ours"]


def import_transformers() -> None:
    """Import what transformers' models share, leanly where that is safe; else leave it to whoever needs it."""
    if _process["ours"] and SHARED[0] not in sys.modules:
        with lean():
            for name in SHARED:
                importlib.import_module(name)


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """In the block, what the module's head lists is stood in for, where that is safe."""
    if not _process["ours"] or COMPILER in sys.modules or "WORLD_SIZE" in os.environ:
        yield
        return
    import torch
    import transformers.utils

    if torch.cuda.is_available():
        yield
        return
    stand_ins = {COMPILER: _Compiler(COMPILER), INDEXING: ModuleType(INDEXING)}
    stand_ins[COMPILER].__path__ = []  # a package: it has a module in it
    stand_ins[INDEXING].TransformGetItemToIndex = _item_to_index  # type: ignore[attr-defined]
    stand_ins |= {name: kind(name) for name, kind in OTHERS.items() if name not in sys.modules}
    askers = (transformers.utils, transformers.utils.import_utils)
    answers = [(module, name, getattr(module, name)) for module in askers for name in UNUSED]
    sys.modules |= stand_ins
    torch._dynamo = stand_ins[COMPILER]
    for module, name, _ in answers:
        setattr(module, name, _no)
    renaming = sys.modules.get(RENAMING)
    if renaming is not None:
        renaming.re = _LaterPatterns()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _withdraw()
        for module, name, answer in answers:
            setattr(module, name, answer)
        if renaming is not None:
            renaming.re = re  # type: ignore[attr-defined]


def _no() -> bool:
    return False


class _LaterPatterns(ModuleType):
    """The module `re`, but for `compile`: a pattern is compiled when something is asked of it."""

    def __init__(self) -> None:
        super().__init__(re.__name__)
        vars(self).update({name: value for name, value in vars(re).items() if not name.startswith("__")})
        self.compile = _LaterPattern


class _LaterPattern:
    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __getattr__(self, name: str) -> Any:
        if name == "_arguments":
            raise AttributeError(name)
        return getattr(re.compile(*self._arguments), name)  # which re keeps


def _item_to_index() -> Any:
    """The real one, imported when a mask is first made through it."""
    return importlib.import_module(INDEXING).TransformGetItemToIndex()


def _unmarked(function: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Any:
    """A mark that leaves the function as it is; called with options alone, the decorator."""
    return _unmarked if function is None else function


class _StandIn(ModuleType):
    """Stands in for a module; asked for what it has not, all give way to the real ones."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._real(name)

    def _real(self, name: str) -> Any:
        _withdraw()
        return getattr(importlib.import_module(self.__name__), name)


class _Compiler(_StandIn):
    """torch's compiler: its marks do nothing."""

    disable = allow_in_graph = assume_constant_result = staticmethod(_unmarked)


class _Symbol:
    """Of which a number is none."""


class _Algebra(_StandIn):
    """sympy: nothing is of it. Its parts cannot be imported before something else is asked of it."""

    def __getattr__(self, name: str) -> Any:
        is_standing_in = sys.modules.get(ALGEBRA) is self
        return _Symbol if name == "Basic" and is_standing_in else super().__getattr__(name)


class _Shapes(_StandIn):
    """torch's symbolic shapes, of plain values: bools, ints and tuples of them."""

    PLAIN: ClassVar[dict[str, Callable[..., bool]]] = {
        **dict.fromkeys(("expect_true", "guard_or_false", "guard_or_true", "statically_known_true"), bool),
        "guard_size_oblivious": bool,
        "sym_and": lambda *conditions: all(conditions),
        "sym_or": lambda *conditions: any(conditions),
        "sym_eq": lambda one, other: one == other,
        "is_nested_int": lambda value: False,
    }
    LATER = ("has_guarding_hint", "guarding_hint_or_throw")  # imported, and called for a symbol alone

    def __init__(self, name: str) -> None:
        super().__init__(name)
        vars(self).update({name: partial(self._answer, name) for name in (*self.PLAIN, *self.LATER)})

    def _answer(self, name: str, *args: Any, **options: Any) -> Any:
        rule = self.PLAIN.get(name)
        if rule is not None and not options and all(map(_is_plain, args)):
            return rule(*args)
        return self._real(name)(*args, **options)


def _is_plain(value: Any) -> bool:
    return type(value) in (bool, int) or (isinstance(value, tuple) and all(map(_is_plain, value)))


OTHERS: dict[str, type[_StandIn]] = {ALGEBRA: _Algebra, SHAPES: _Shapes}


def _withdraw() -> None:
    """Take the stand-ins away; whoever imports what they stood for gets it."""
    import torch

    if isinstance(sys.modules.get(COMPILER), _Compiler):
        del sys.modules[COMPILER], torch._dynamo
        sys.modules.pop(INDEXING, None)
    for name, kind in OTHERS.items():
        if isinstance(sys.modules.get(name), kind):
            del sys.modules[name]
