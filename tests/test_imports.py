"""The direction of imports, the one owner of each heavy library, and a start that loads none of them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lmeval"

# From the ground up: a module imports from layers below its own, or from its own folder in the same layer.
# The longest prefix decides where a module lies.
LAYERS = (
    "secrets printable offline stopping",
    "errors records",
    "nesting student_t",
    "paths locks stats orders memorization patterns",
    "sandbox",
    "engine.tokenization engine.causal_windows engine.masked_spans engine.plan",
    "paired betting demo yamltree rows templates pages perturb",
    "metrics engine store",
    "specs runs clusters groups keys journal listener",
    "cache workers",
    "task mirror",
    "documents rendering heads",
    "prompts",
    "perturb.prompts",
    "requests calibration run_record resume",
    "scoring ask",
    "prepare",
    "evaluate",
    "perturb.drops",
    "run compare",
    "trends",
    "gate series leaderboard",
    "selftest exports",
    "report inspection baseline",
    "cli",
    "__main__",
)
RANKS = {f"lmeval.{module}": rank for rank, layer in enumerate(LAYERS) for module in layer.split()}
RANKS["lmeval"] = 0  # the package itself holds only the version

OWNERS = {
    "torch": ("lmeval.engine", "lmeval.demo"),
    "transformers": ("lmeval.engine", "lmeval.demo"),
    "tokenizers": ("lmeval.engine", "lmeval.demo"),
    "safetensors": ("lmeval.engine", "lmeval.demo"),
    "gguf": ("lmeval.engine",),
    "peft": ("lmeval.engine",),
    "datasets": ("lmeval.documents", "lmeval.metrics.plugin"),  # evaluate describes a metric's inputs with it
    "pyarrow": ("lmeval.rows",),
    "sacrebleu": ("lmeval.metrics",),
    "rouge_score": ("lmeval.metrics",),
    "evaluate": ("lmeval.metrics",),
    "ray": ("lmeval.workers",),
    "rich": ("lmeval.cli", "lmeval.report"),
    "typer": ("lmeval.cli",),
    "vl_convert": ("lmeval.pages",),
    "pandas": (),
    "sklearn": (),
}

# What neither `lmeval --help` nor `lmeval tasks list` may load.
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "evaluate",
    "sacrebleu",
    "rouge_score",
    "scipy",
    "vl_convert",
    "pandas",
    "ray",
    "sklearn",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_in(module: str, folder: str) -> bool:
    return module == folder or module.startswith(folder + ".")


def imports_of(module: str) -> Iterator[tuple[str, int]]:
    """Every module that one imports, with the line. `from a import b` may mean module a.b."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield (whole if whole in MODULES else source), node.lineno


def rank(module: str) -> int:
    prefix = module
    while prefix not in RANKS or (prefix == "lmeval" and module != "lmeval"):
        prefix, dot, _ = prefix.rpartition(".")
        assert dot, f"{module} has no rank: give it one in tests/test_imports.py"
    return RANKS[prefix]


def may_import(module: str, imported: str) -> bool:
    own_folder = module.split(".")[1:2] == imported.split(".")[1:2]
    return rank(imported) < rank(module) or (own_folder and rank(imported) == rank(module))


def internal_imports(module: str) -> list[tuple[str, int]]:
    return [(name, line) for name, line in imports_of(module) if is_in(name, "lmeval")]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_the_ranks(module: str) -> None:
    wrong = [
        f"{MODULES[module]}:{line}: {module} (rank {rank(module)}) imports {name} (rank {rank(name)})"
        for name, line in internal_imports(module)
        if name != module and not may_import(module, name)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: {name for name, _ in internal_imports(module)} - {module} for module in MODULES}
    assert set(TopologicalSorter(graph).static_order()) == set(graph)  # or CycleError, which names the circle


@pytest.mark.parametrize("library", OWNERS)
def test_each_heavy_library_has_one_owner(library: str) -> None:
    wrong = [
        f"{MODULES[module]}:{line}: only {', '.join(OWNERS[library]) or 'nobody'} may import {library}"
        for module in MODULES
        for name, line in imports_of(module)
        if is_in(name, library) and not any(is_in(module, owner) for owner in OWNERS[library])
    ]
    assert not wrong, "\n".join(wrong)


def test_the_walk_sees_imports_in_functions_and_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from . import records\ndef f():\n    import torch.nn\n    from ..errors import LmevalError\n"
    (tmp_path / "fake.py").write_text(source)
    monkeypatch.setitem(MODULES, "lmeval.engine.fake", tmp_path / "fake.py")
    monkeypatch.setitem(MODULES, "lmeval.engine.records", tmp_path / "records.py")
    assert sorted(imports_of("lmeval.engine.fake")) == [
        ("lmeval.engine.records", 1),
        ("lmeval.errors", 4),
        ("torch.nn", 3),
    ]
    assert not may_import("lmeval.engine.plan", "lmeval.engine.causal")
    assert may_import("lmeval.engine.causal", "lmeval.engine.plan")
    assert not may_import("lmeval.metrics.qa", "lmeval.store")


@pytest.mark.parametrize("arguments", [["--help"], ["tasks", "list"], ["run", "--help"]], ids=" ".join)
def test_start_loads_no_heavy_library(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from lmeval.cli import main\n"
        "status = 0\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    status = end.code or 0\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "open('loaded.json', 'w').write(json.dumps([status, loaded]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", code, *arguments]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads((tmp_path / "loaded.json").read_text()) == [0, []]
    assert ran.stdout.strip()
