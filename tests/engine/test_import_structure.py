"""transformers' import structure is read once, and again as soon as one of its files is another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmeval.cache import upkeep
from lmeval.engine.import_structure import IMPORTS, import_structure

STRUCTURE = {
    frozenset({"torch"}): {"modeling_a": {"AModel", "AForCausalLM"}},
    "b": {
        frozenset(): {"configuration_b": {"BConfig"}},
        frozenset({"tokenizers", "torch"}): {"tokenization_b": {"B"}},
    },
}

START = """
import sys
from lmeval.engine.lean import own_process
own_process()
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import transformers.models.auto.modeling_auto
read = sum("/transformers/models/" in name and name.endswith(".py") for name in opened)
assert transformers.LlamaConfig(vocab_size=3).vocab_size == 3
assert not any("KeepingImportStructure" in type(finder).__name__ for finder in sys.meta_path)
print(read, transformers._modules and len(transformers._class_to_module))
"""


class Reader:
    """Says what it is asked for, and how often."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, folder: Any) -> dict[Any, Any]:
        self.asked += 1
        return STRUCTURE


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two models' files, last changed an hour ago as far as the clock of the test says."""
    folder = tmp_path / "models"
    (folder / "b").mkdir(parents=True)
    (folder / "modeling_a.py").write_text("__all__ = ['AModel']")
    (folder / "b" / "configuration_b.py").write_text("__all__ = ['BConfig']")
    monkeypatch.setenv("LMEVAL_CACHE", str(tmp_path / "cache"))
    later = os.stat(folder / "modeling_a.py").st_ctime + 3600
    monkeypatch.setattr("lmeval.engine.import_structure.time.time", lambda: later)
    return folder


def test_what_was_read_is_kept(models: Path) -> None:
    reader = Reader()
    assert import_structure(reader, models) == import_structure(reader, models) == STRUCTURE
    assert import_structure(reader, str(models / "__init__.py")) == STRUCTURE
    assert reader.asked == 1


@pytest.mark.parametrize("change", ["longer", "another", "new", "gone", "replaced"])
def test_a_changed_file_is_read_again(models: Path, change: str) -> None:
    reader = Reader()
    import_structure(reader, models)
    file = models / "b" / "configuration_b.py"
    before = file.stat()
    if change == "longer":
        file.write_text("__all__ = ['BConfig', 'C']")
    elif change == "another":  # of the same length, and its time set back
        file.write_text("__all__ = ['CConfig']")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "new":
        (models / "b" / "modeling_b.py").write_text("")
    elif change == "gone":
        file.unlink()
    else:
        other = models.parent / "other"
        other.write_text(file.read_text())
        other.replace(file)
    import_structure(reader, models)
    assert reader.asked == 2


@pytest.mark.parametrize("damage", [b"", b"x\n[]", b"\xff\xfe", b'{"a": 1}'])
def test_what_is_damaged_is_read_again(models: Path, damage: bytes) -> None:
    reader = Reader()
    import_structure(reader, models)
    (known,) = (models.parent / "cache" / IMPORTS).iterdir()
    whole = known.read_bytes()
    for content in (damage, whole.replace(b"BConfig", b"CConfig")):
        known.write_bytes(content)
        assert import_structure(reader, models) == STRUCTURE
        assert known.read_bytes() == whole
    assert reader.asked == 3


def test_what_changed_just_now_is_not_kept(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = os.stat(models / "modeling_a.py").st_ctime
    monkeypatch.setattr("lmeval.engine.import_structure.time.time", lambda: now + 1)
    reader = Reader()
    for _ in range(2):
        import_structure(reader, models)
    assert reader.asked == 2


def test_without_a_cache_folder_it_is_read_each_time(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models.parent / "file").write_text("")
    monkeypatch.setenv("LMEVAL_CACHE", str(models.parent / "file"))
    reader = Reader()
    assert import_structure(reader, models) == import_structure(reader, models) == STRUCTURE
    assert reader.asked == 2


def test_other_folders_are_left_to_transformers(models: Path) -> None:
    reader = Reader()
    for _ in range(2):
        import_structure(reader, models / "b")
    assert reader.asked == 2


def test_clearing_the_cache_forgets_it(models: Path) -> None:
    reader = Reader()
    import_structure(reader, models)
    upkeep.clear()
    import_structure(reader, models)
    assert reader.asked == 2


def test_the_second_start_reads_none_of_the_files(tmp_path: Path) -> None:
    import transformers

    newest = max(file.stat().st_ctime for file in Path(transformers.__file__).parent.rglob("*.py"))
    code = f"import time; time.time = lambda at=time.time: max(at(), {newest + 60})\n" + START
    env = os.environ | {"LMEVAL_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    (first, names), (second, again) = (
        subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=120
        ).stdout.split()
        for _ in range(2)
    )
    assert int(first) > 1000
    assert int(second) < 100
    assert names == again
