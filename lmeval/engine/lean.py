"""A start without what transformers imports and an evaluation on a CPU never calls.

transformers 5 imports, for decorators of one line each, torch's compiler (and with it sympy's algebra), the tensors of
distributed training, and SciPy's optimizers for the losses of object detection: more than a third of the time in which
torch, transformers and a Llama are there (bench/RESULTS.md). While transformers is imported and weights are loaded, the
three are stood in for; afterwards, and as soon as more than such a mark is asked of them, they are the real ones.

What it costs: functions of transformers keep no mark for a compiler, and know no distributed tensors. So this is for a
process that is ours alone, runs no compiler and is one of one: `own_process` is called by the command line, not by
those who use lmeval as a library.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
INDEXING = f"{COMPILER}._trace_wrapped_higher_order_op"
UNUSED = ("is_torch_distributed_available", "is_scipy_available")
# What the model classes share: a Llama's module imports what nearly every other one does
SHARED = ("transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama")

_process = {"ours": False}


def own_process() -> None:
    """Say that nothing else in this process uses torch or transformers; before either is imported."""
    _process["ours"] = True
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
    """In the block, the compiler, distributed tensors and SciPy's optimizers are stood in for, where that is safe."""
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
    askers = (transformers.utils, transformers.utils.import_utils)
    answers = [(module, name, getattr(module, name)) for module in askers for name in UNUSED]
    sys.modules |= stand_ins
    torch._dynamo = stand_ins[COMPILER]
    for module, name, _ in answers:
        setattr(module, name, _no)
    try:
        yield
    finally:
        _withdraw()
        for module, name, answer in answers:
            setattr(module, name, answer)


def _no() -> bool:
    return False


def _item_to_index() -> Any:
    """The real one, imported when a mask is first made through it."""
    return importlib.import_module(INDEXING).TransformGetItemToIndex()


def _unmarked(function: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Any:
    """A mark that leaves the function as it is; called with options alone, the decorator."""
    return _unmarked if function is None else function


class _Compiler(ModuleType):
    """Stands in for torch's compiler: its marks do nothing; asked for anything else, it gives way to the real one."""

    disable = allow_in_graph = assume_constant_result = staticmethod(_unmarked)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _withdraw()
        return getattr(importlib.import_module(COMPILER), name)


def _withdraw() -> None:
    """Take the stand-ins away; whoever imports what they stood for gets it."""
    import torch

    if isinstance(sys.modules.get(COMPILER), _Compiler):
        del sys.modules[COMPILER], torch._dynamo
        sys.modules.pop(INDEXING, None)
