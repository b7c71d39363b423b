"""What the command line leaves out at the start, and that it is there for whoever asks afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LEFT_OUT = ("torch._dynamo", "torch.distributed.tensor", "scipy.optimize", "sympy")

COMMAND = """
import json, sys
from lmeval.cli import main
sys.argv = "lmeval run --limit 2 --quiet --model {model} --tasks {tasks}".split() + ["--output", {output!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = [name for name in {names!r} if name in sys.modules]
"""

AFTERWARDS = """
import torch, transformers
import torch._dynamo
from transformers.utils import is_scipy_available, is_torch_distributed_available
real = torch._dynamo.config.cache_size_limit > 0
marked = torch.compiler.disable(lambda: 3)
real_mark = marked() == 3 and hasattr(marked, "_torchdynamo_disable")
from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex
whole = is_scipy_available() and is_torch_distributed_available() and isinstance(TransformGetItemToIndex, type)
print(json.dumps([loaded, real, real_mark, whole]))
"""

ASKED = """
import sys, torch
from lmeval.engine.lean import lean, own_process
own_process()
with lean():
    assert torch.compiler.disable(torch.sin) is torch.sin
    assert torch._dynamo.config.cache_size_limit > 0  # no mark: the real compiler steps in
    assert "torch._dynamo.convert_frame" in sys.modules
assert torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.config.cache_size_limit > 0
"""

SHAPES = """
import sys, torch
from lmeval.engine.lean import lean, own_process
own_process()
with lean():
    with torch.device("meta"):
        assert (2.0 * torch.arange(6)[None, :, None]).normal_().shape == (1, 6, 1)
        try:
            torch.ones(2) + torch.ones(3)
        except RuntimeError:
            pass
        else:
            raise AssertionError("sizes that do not fit")
    assert not isinstance(3, sys.modules["sympy"].Basic) and not hasattr(sys.modules["sympy"], "__file__")
    import sympy
    assert sympy.Integer(2) + 2 == 4 and isinstance(sympy.Integer(2), sympy.Basic)
    from torch.fx.experimental.symbolic_shapes import ShapeEnv, sym_eq
    assert isinstance(ShapeEnv, type) and sym_eq((1, 2), (1, 2)) is True
assert sys.modules["sympy"].__file__
"""

RENAMING = """
import re, sys
import transformers.core_model_loading as loading
from copy import deepcopy
from lmeval.engine.lean import lean, own_process
own_process()
with lean():
    later = deepcopy([loading.WeightRenaming(r"^gamma", "weight"), loading.re.compile("(?P<a>b+)", re.I)])
    assert loading.re.compile is not re.compile
assert loading.re is re
assert later[0].compiled_sources.search("gamma.3").start() == 0 and later[0].compiled_sources.search("a.gamma") is None
assert later[1].search("aBb")["a"] == "Bb" and later[1].groupindex["a"] == 1
"""

LIBRARY = """
import sys
from lmeval.engine.lean import import_transformers, lean
import_transformers()
assert "transformers.modeling_utils" not in sys.modules
with lean():
    assert "torch._dynamo" not in sys.modules
"""


def run_python(code: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_run_leaves_out_what_it_never_calls_and_others_still_get_it(tmp_path: Path) -> None:
    code = COMMAND.format(model="demo", tasks="demo_cloze,demo_qa", output=str(tmp_path), names=LEFT_OUT)
    loaded, *there = json.loads(run_python(code + AFTERWARDS).splitlines()[-1])
    assert loaded == []
    assert all(there), there


def test_a_masked_model_starts_as_lean(tmp_path: Path) -> None:
    code = COMMAND.format(
        model="demo-masked", tasks="demo_minimal_pairs", output=str(tmp_path), names=LEFT_OUT
    )
    assert json.loads(run_python(code + "print(json.dumps(loaded))").splitlines()[-1]) == []


def test_more_than_a_mark_brings_the_real_compiler() -> None:
    run_python(ASKED)


def test_plain_sizes_need_no_algebra_and_whoever_asks_for_it_gets_it() -> None:
    run_python(SHAPES)


def test_patterns_are_compiled_when_they_are_asked() -> None:
    run_python(RENAMING)


def test_a_library_user_gets_everything_as_it_is() -> None:
    run_python(LIBRARY)
