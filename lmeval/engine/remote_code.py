"""Code that a model's folder brings along: what of it would run, and why it does not unless the user asks for it.

`auto_map` in config.json or tokenizer_config.json names classes as `module.Class`, or `owner/name--module.Class` of
another repository. What a class of transformers does needs none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmeval.engine.weight_files import read_json_object
from lmeval.errors import ModelError

TRUST_REMOTE_CODE = "--trust-remote-code"
USED = re.compile(r"AutoConfig|AutoTokenizer|AutoModel\w*")  # of auto_map; processors of images are not ours
RELATIVE_IMPORT = re.compile(r"^\s*(?:from\s+\.(\w+)\s+import|import\s+\.(\w+))", re.M)
FILES = ("config.json", "tokenizer_config.json")


def code_files(folder: Path) -> list[str]:
    """The files that `auto_map` would have run, those of other repositories as owner/name/module.py."""
    found: dict[str, None] = {}
    for reference in _references(folder):
        repository, dashes, name = reference.rpartition("--")
        module = name.partition(".")[0] + ".py"
        if dashes:
            found[f"{repository}/{module}"] = None
        else:
            found |= dict.fromkeys(_with_imports(folder, module))
    return list(found)


def _references(folder: Path) -> Iterator[str]:
    for file in FILES:
        auto_map: Any = read_json_object(folder / file).get("auto_map") if (folder / file).is_file() else None
        if isinstance(auto_map, list):  # of a tokenizer: the slow and the fast one
            auto_map = {"AutoTokenizer": auto_map}
        for key, value in auto_map.items() if isinstance(auto_map, dict) else ():
            if USED.fullmatch(str(key)):
                yield from (str(one) for one in (value if isinstance(value, list) else [value]) if one)


def _with_imports(folder: Path, module: str) -> list[str]:
    """A module and what it imports from beside it."""
    found, left = [], [module]
    while left:
        name = left.pop(0)
        if name in found:
            continue
        found.append(name)
        if Path(name).name == name and (folder / name).is_file():
            source = (folder / name).read_text(encoding="utf-8", errors="replace")
            left += [f"{one or other}.py" for one, other in RELATIVE_IMPORT.findall(source)]
    return found


def needs_code(folder: Path, what: str) -> ModelError:
    """The refusal to run a folder's code; `what` needs it."""
    files = code_files(folder)
    return ModelError(
        f"{what} needs code of its own, which lmeval does not run unless you ask for it",
        where=f"it would run {', '.join(files) or 'code that its folder names'}, with all that you may do here",
        fix=f"read that code; if you trust it, give {TRUST_REMOTE_CODE}, and the record will say so",
    )


def wants_code(error: BaseException) -> bool:
    """Whether transformers refused to load something because that takes code of the folder's."""
    return "trust_remote_code" in str(error)
