"""Task files: YAML -> validated TaskSpecs, and the tasks that a selector names.

A task file is data, and every key is checked before any document is read: an error names file, line and key,
what was found and what is allowed. `variants` in a file gives several tasks that differ in a few keys.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from lmeval.errors import TaskError, did_you_mean
from lmeval.sandbox.source import count_tokens
from lmeval.specs import NESTED_KEYS, TASK_TYPES, TaskSpec, shown
from lmeval.yamltree import KeyPath, Lines, read_yaml

MAX_VARIANTS = 1_000
MAX_VARIED = 300_000  # variants, times the file's keys and values
MAX_TEMPLATE_TOKENS = 30_000  # of all templates of a file, as `sandbox.count_tokens` counts them
MAX_PROBLEMS = 12  # that are told


class _Problem(tuple[int, str, str]):
    """(line, key, sentence)."""

    __slots__ = ()


def load_task_file(path: Path | str) -> tuple[TaskSpec, ...]:
    """The tasks of one YAML file: one, or one per variant.

    Raises:
        TaskError: The file cannot be read or does not validate; every problem is listed with line and key.
    """
    path = Path(path)
    tree, lines = read_yaml(path, noun="task file", fix=_FIX_NEW)
    if not isinstance(tree, dict):
        raise TaskError("A task file is a mapping of keys to values.", where=f"{path}:1", fix=_FIX_NEW)
    _check_templates(tree, path)
    specs: dict[str, TaskSpec] = {}
    problems: list[_Problem] = []
    for data, data_lines in _expand_variants(tree, lines, path):
        try:
            spec = _validate(data, data_lines, path)
        except _Invalid as error:
            problems += error.problems
        else:
            if spec.name in specs:
                line = data_lines[()] if "variants" in tree else 1
                problems.append(
                    _Problem((line, "name", f'a second task called "{spec.name}"; names are unique'))
                )
            specs[spec.name] = spec
        if len(problems) > MAX_PROBLEMS:
            break  # whoever reads them starts with the first
    if problems:
        raise _task_error(path, problems)
    return tuple(specs.values())


def _check_templates(tree: Any, path: Path) -> None:
    """Refuse a file whose templates would take long to compile, whichever of its texts they are."""
    left = MAX_TEMPLATE_TOKENS
    for source in {text for text in _texts(tree) if "{" in text}:
        left -= count_tokens(source, left)
        if left <= 0:
            raise TaskError(
                f"Its templates have more than {MAX_TEMPLATE_TOKENS:,} words and signs in their expressions.",
                where=str(path),
                fix="compute in the data what is the same for many documents, or write several files",
            )


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _texts(value)


_FIX_NEW = "`lmeval tasks new NAME --type TYPE` writes a file to start from."


def _expand_variants(
    tree: dict[str, Any], lines: Lines, path: Path
) -> Iterator[tuple[dict[str, Any], Lines]]:
    """The tree, or for each variant the rest of the file with the variant merged over it."""
    if "variants" not in tree:
        yield tree, lines
        return
    base = {key: value for key, value in tree.items() if key != "variants"}
    variants = tree["variants"]
    where = f"{path}:{lines['variants',]}, key variants"
    if not isinstance(variants, list) or not variants:
        raise TaskError(f"found {shown(variants)}; a list of mappings is allowed.", where=where)
    if len(variants) > MAX_VARIANTS or len(variants) * len(lines) > MAX_VARIED:
        raise TaskError(
            f"{len(variants):,} variants; allowed are {MAX_VARIANTS:,}, and fewer where the file is long.",
            where=where,
            fix="write several files",
        )
    own_lines: dict[Any, dict[KeyPath, int]] = defaultdict(dict)  # by the variant's index; of the base: None
    for key, line in lines.items():
        own_lines[key[1] if key[:1] == ("variants",) and len(key) > 1 else None][key] = line
    for index, variant in enumerate(variants):
        prefix: KeyPath = ("variants", index)
        if not isinstance(variant, dict):
            where = f"{path}:{lines[prefix]}, key variants[{index}]"
            raise TaskError(f"found {shown(variant)}; a mapping of keys to values is allowed.", where=where)
        merged_lines = {key: line for key, line in own_lines[None].items() if key != ("variants",)}
        merged_lines |= {key[2:]: line for key, line in own_lines[index].items()}
        yield _deep_merge(base, variant), merged_lines


def _deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = (
            _deep_merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged


class _Invalid(Exception):
    def __init__(self, problems: list[_Problem]) -> None:
        self.problems = problems


def _validate(data: dict[str, Any], lines: Lines, path: Path) -> TaskSpec:
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in TASK_TYPES:
        allowed = f"Allowed are {', '.join(TASK_TYPES)}"
        what = f"missing. {allowed}"
        if "type" in data:
            what = f"unknown type {shown(kind)}.{did_you_mean(str(kind), TASK_TYPES)} {allowed}"
        raise _Invalid([_Problem((lines.get(("type",), lines[()]), "type", what))])
    cls = TASK_TYPES[kind]
    if "file" in data:  # a field of the spec, but no key of the file
        raise _Invalid([_Problem((lines["file",], "file", _unknown_key(cls, ("file",))))])
    try:
        return cls.model_validate({**data, "file": path})
    except ValidationError as error:
        raise _Invalid(list(islice(_problems(error, cls, lines), 10 * MAX_PROBLEMS))) from None


def _problems(error: ValidationError, cls: type[TaskSpec], lines: Lines) -> Iterator[_Problem]:
    """Pydantic's findings as sentences, at the line of the key."""
    items = error.errors(include_url=False)
    unknown = [item["loc"] for item in items if item["type"] == "extra_forbidden"][:MAX_PROBLEMS]
    for item in items:
        key: KeyPath = item["loc"]
        if item["type"] == "missing" and any(_is_misspelt(key, other) for other in unknown):
            continue  # told as "Did you mean"
        if key[1:2] in (("list",), ("text",), ("int",)):
            key = (key[0], *key[2:])  # a union's own entry in `loc` is no key
        at = key
        while at not in lines:
            at = at[:-1]
        yield _Problem((lines[at], _dotted(key), _sentence(item, cls, key)))


def _is_misspelt(key: KeyPath, written: KeyPath) -> bool:
    return key[:-1] == written[:-1] and bool(did_you_mean(str(written[-1]), [str(key[-1])]))


_EXPECTED = {
    "string_type": "text (put it in quotes)",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "model_type": "a mapping of keys to values",
}


def _sentence(item: Any, cls: type[TaskSpec], key: KeyPath) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(cls, key)
    if kind == "missing":
        return f"missing; a {cls.type_name()} task needs it"
    if kind == "value_error":
        return str(context["error"])
    found = f"found {shown(item['input'])}"
    if kind == "literal_error":
        return f"{found}; allowed is {context['expected']}"
    if kind in _EXPECTED:
        list_too = " or a list of texts" if kind == "string_type" and item["loc"][1:] == ("text",) else ""
        return f"{found}; allowed is {_EXPECTED[kind]}{list_too}"
    return f"{found}: {item['msg'].lower()}"


def _unknown_key(cls: type[BaseModel], key: KeyPath) -> str:
    owner = cls if len(key) == 1 else NESTED_KEYS[str(key[0])]
    valid = [name for name in owner.model_fields if name != "file"]
    if owner is cls:
        valid.append("variants")
    return f"unknown key.{did_you_mean(str(key[-1]), valid)} Allowed are {', '.join(valid)}"


def _task_error(path: Path, problems: Iterable[_Problem]) -> TaskError:
    found = sorted(dict.fromkeys(problems))
    if len(found) == 1:
        line, key, what = found[0]
        return TaskError(f'Key "{key}": {what}.', where=f"{path}:{line}, key {key}")
    told = found[:MAX_PROBLEMS]
    listed = [f"  {path}:{line}, key {key}: {what}" for line, key, what in told]
    count = str(len(found)) if told == found else f"The first {len(told)}"
    return TaskError("\n".join([f"{count} problems in the task file:", *listed]), where=str(path))


def _dotted(key: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.lstrip(".")


# ---- finding tasks ----


def shipped_tasks_dir() -> Path:
    """The folder of the task files that ship: inside a wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "_tasks"
    return inside if inside.is_dir() else package.parent / "tasks"


def all_tasks(tasks_dirs: Sequence[Path] = ()) -> tuple[TaskSpec, ...]:
    """Every task that ships and every task of `tasks_dirs`, sorted by name.

    Raises:
        TaskError: A folder is missing, a file does not validate, or two tasks share a name.
    """
    specs, broken = _scan(tasks_dirs)
    if broken:
        raise broken[0]
    return tuple(sorted(specs.values(), key=lambda spec: spec.name))


def find_tasks(selectors: Sequence[str], tasks_dirs: Sequence[Path] = ()) -> tuple[TaskSpec, ...]:
    """The tasks that names, globs, tags (`tag:x`) and paths to YAML files select; in order, each once.

    Raises:
        TaskError: A selector selects nothing, or two selected files give tasks of one name.
    """
    known: dict[str, TaskSpec] = {}
    broken: list[TaskError] = []
    if not all(map(_is_file_selector, selectors)):
        known, broken = _scan(tasks_dirs)
    chosen: dict[str, TaskSpec] = {}
    for selector in selectors:
        if _is_file_selector(selector):
            selected = list(load_task_file(selector))
        else:
            selected = _select(selector, known, broken)
        for spec in selected:
            _add_unique(chosen, spec)
    if not chosen:
        raise TaskError("No task is selected.", fix="`lmeval tasks list` shows the tasks.")
    return tuple(chosen.values())


def _is_file_selector(selector: str) -> bool:
    return selector.endswith((".yaml", ".yml")) or "/" in selector or "\\" in selector


def _select(selector: str, known: Mapping[str, TaskSpec], broken: Sequence[TaskError]) -> list[TaskSpec]:
    if selector in known:
        return [known[selector]]
    if broken:  # what is sought may be in the file that cannot be read
        raise broken[0]
    fix = "`lmeval tasks list` shows the tasks; --tasks-dir DIR adds a folder of task files."
    if selector.startswith("tag:"):
        tag = selector.removeprefix("tag:")
        selected = [spec for spec in known.values() if tag in spec.tags]
        tags = sorted({tag for spec in known.values() for tag in spec.tags})
        if not selected:
            listed = ", ".join(tags) or "none"
            raise TaskError(f'No task has the tag "{tag}".{did_you_mean(tag, tags)} Tags: {listed}.', fix=fix)
        return sorted(selected, key=lambda spec: spec.name)
    names = sorted(fnmatch.filter(known, selector)) if re.search(r"[*?\[]", selector) else []
    if not names:
        kind = "matches" if re.search(r"[*?\[]", selector) else "is called"
        raise TaskError(f'No task {kind} "{selector}".{did_you_mean(selector, known)}', fix=fix)
    return [known[name] for name in names]


def _scan(tasks_dirs: Sequence[Path]) -> tuple[dict[str, TaskSpec], list[TaskError]]:
    """Tasks by name, and the errors of the files that do not validate."""
    specs: dict[str, TaskSpec] = {}
    broken: list[TaskError] = []
    for folder in (shipped_tasks_dir(), *map(Path, tasks_dirs)):
        if not folder.is_dir():
            raise TaskError("There is no such folder of tasks.", where=str(folder), fix="Check --tasks-dir.")
        for file in sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml")):
            try:
                loaded = load_task_file(file)
            except TaskError as error:
                broken.append(error)
                continue
            for spec in loaded:
                _add_unique(specs, spec)
    return specs, broken


def _add_unique(specs: dict[str, TaskSpec], spec: TaskSpec) -> None:
    other = specs.setdefault(spec.name, spec)
    if other is not spec and other.file.resolve() != spec.file.resolve():
        raise TaskError(
            f'Two tasks are called "{spec.name}".',
            where=f"{other.file} and {spec.file}",
            fix="Rename one of them.",
        )


# ---- schema ----


def json_schema() -> dict[str, Any]:
    """JSON Schema of a task file, for editors."""
    union: Any = Annotated[TaskSpec, Field(discriminator="type")]
    schema = TypeAdapter(union).json_schema()
    for definition in schema["$defs"].values():
        definition["properties"].pop("file", None)
    task = {key: value for key, value in schema.items() if key != "$defs"}
    variants = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lmeval task file",
        "if": {"required": ["variants"]},
        "then": {"type": "object", "properties": {"variants": variants}},
        "else": task,
        "$defs": schema["$defs"],
    }
