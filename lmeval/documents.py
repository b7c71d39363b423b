"""Where documents come from: a local file, a mirror of hub data sets, or the hub.

What a mirror (--data-root, see mirror.py) lacks is asked of the hub. Data sets that need a script to load are
refused: a script could do anything. So are files that the task file has no business with, see paths.py.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from lmeval.errors import DataError
from lmeval.mirror import SUFFIXES, find_in_mirror, mirror_file
from lmeval.paths import local_file
from lmeval.records import Document, canonical_sha256
from lmeval.rows import ArrowRows, Rows, open_rows
from lmeval.specs import DatasetSpec, TaskSpec

HUB_TIMEOUT_SECONDS = 10.0
CONFIGURATION = "configuration"  # the column that tasks of several configurations have


class Documents(Sequence[Document]):
    """The documents of a split; each is read when it is asked for."""

    def __init__(self, rows: Rows, source: str, revision: str | None = None) -> None:
        """Wrap rows; `source` names them in messages, `revision` is the hub's commit where there is one."""
        self._rows = rows
        self.source = source
        self.revision = revision

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Document: ...

    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...

    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        columns = self._rows[index]
        return Document(index, columns, canonical_sha256(columns))

    def columns(self, index: int) -> Mapping[str, Any]:
        """A document's columns alone."""
        return self._rows[index]

    @property
    def num_available(self) -> int:
        """Documents in the split, whatever --limit says."""
        return len(self)


def load_documents(
    dataset: DatasetSpec,
    base_dir: Path,
    *,
    split: str | None = None,
    data_root: Path | None = None,
    offline: bool = False,
    allowed: Sequence[Path] = (),
) -> Documents:
    """The documents of one split.

    Args:
        dataset: Where they are.
        base_dir: The task file's folder, which local paths are relative to.
        split: Another split than the one that is evaluated.
        data_root: A mirror of hub data sets, read before the hub is asked.
        offline: Ask the hub's cache only.
        allowed: Folders that a local file may lie in, beside the task file's and the mirror.

    Raises:
        DataError: The data set, configuration or split is not to be had, is malformed or has no documents.
    """
    if dataset.is_local:
        return load_file(local_file(dataset.path, base_dir, _with_root(allowed, data_root)))
    split = split or dataset.split
    assert split is not None, "a hub data set has a split: DatasetSpec checks it"
    if dataset.names is not None:
        return _in_turn(
            {
                str(part.name): load_documents(
                    part, base_dir, split=split, data_root=data_root, offline=offline
                )
                for part in dataset.parts
            }
        )
    if data_root is not None:
        found = find_in_mirror(dataset, split, data_root)
        if found is not None:
            return load_file(found.file, found.revision)
    try:
        documents = _load_from_hub(dataset, split, offline)
    except DataError as error:
        raise _with_mirror(error, dataset, split, data_root) from None
    return _not_empty(documents)


def load_shots(
    spec: TaskSpec,
    documents: Documents,
    *,
    data_root: Path | None = None,
    offline: bool = False,
    allowed: Sequence[Path] = (),
) -> Documents:
    """The documents that shots are drawn from: `fewshot_path`, `fewshot_split` or the split itself."""
    dataset = spec.dataset
    if dataset.fewshot_path is not None:
        return load_file(local_file(dataset.fewshot_path, spec.base_dir, _with_root(allowed, data_root)))
    if dataset.fewshot_split is not None:
        split = dataset.fewshot_split
        return load_documents(dataset, spec.base_dir, split=split, data_root=data_root, offline=offline)
    return documents


def _with_root(allowed: Sequence[Path], data_root: Path | None) -> tuple[Path, ...]:
    return (*allowed, *([] if data_root is None else [data_root]))


def load_file(path: Path, revision: str | None = None) -> Documents:
    """The documents of a .jsonl, .json, .csv, .parquet or .txt file.

    Raises:
        DataError: It is missing, malformed or has no documents.
    """
    return _not_empty(Documents(open_rows(path), str(path), revision))


def _in_turn(parts: Mapping[str, Documents]) -> Documents:
    """The first document of each configuration, then the second of each that has one, and so on."""
    longest = max(map(len, parts.values()))
    order = [(name, row) for row in range(longest) for name, part in parts.items() if row < len(part)]
    first = next(iter(parts.values()))
    return Documents(_RowsInTurn(parts, order), f"{first.source} and {len(parts) - 1} more", first.revision)


class _RowsInTurn:
    """Rows of several configurations, with a column that says of which each is."""

    def __init__(self, parts: Mapping[str, Documents], order: Sequence[tuple[str, int]]) -> None:
        self._parts, self._order = parts, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        name, row = self._order[index]
        return {**self._parts[name].columns(row), CONFIGURATION: name}


def _not_empty(documents: Documents) -> Documents:
    if not len(documents):
        raise DataError("There are no documents.", where=documents.source)
    return documents


# ---- the mirror ----


def _with_mirror(error: DataError, dataset: DatasetSpec, split: str, root: Path | None) -> DataError:
    """The hub's error, with what the mirror lacks and what it has."""
    if root is None:
        return error
    file = mirror_file(dataset, split, root)
    folder = root.joinpath(*dataset.path.split("/"))
    there = sorted(
        f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*") if path.suffix in SUFFIXES
    )
    has = f"the mirror has {', '.join(there[:20])}" if there else "the mirror has nothing of this data set"
    where = f"{error.where}; no file {file} or .parquet, {has}"
    fix = f"name what is there under dataset (name, split), or {error.fix}" if there else error.fix
    return DataError(error.what, where=where, fix=fix)


# ---- the hub ----

_FIX_UNREACHABLE = (
    "give a mirror that has it with --data-root (`lmeval data pull --tasks TASK --to DIR` on a connected "
    "machine writes one), or a local file as the task's dataset.path."
)


def _load_from_hub(dataset: DatasetSpec, split: str, offline: bool) -> Documents:
    import datasets

    _refuse_folder(dataset)
    where = f"hub data set {dataset.path}, configuration {dataset.name or '(none)'}, split {split}"
    commit = None if offline else _ask_hub(dataset, where)
    try:
        with _hub_offline(commit is None):
            loaded = datasets.load_dataset(dataset.path, dataset.name, split=split, revision=dataset.revision)
    except (
        Exception
    ) as error:  # the library raises a dozen kinds for what is, to us, one: it cannot be loaded
        raise _load_error(error, where, offline=offline, reached=commit is not None) from None
    return Documents(ArrowRows(_ArrowTable(loaded)), where, commit)


def _refuse_folder(dataset: DatasetSpec) -> None:
    """What `datasets` would take for a folder of this machine, not for a name on the hub.

    Raises:
        DataError: It is one of its own readers, which read the working folder, or there is a folder of that name.
    """
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    where = f"data set {dataset.path}"
    if dataset.path in _PACKAGED_DATASETS_MODULES:
        raise DataError(
            f'"{dataset.path}" is a reader of files, not a data set on the hub.',
            where=where,
            fix="give dataset.path the file's own name, such as docs.jsonl",
        )
    if os.path.lexists(dataset.path):
        raise DataError(
            f"There is {os.path.abspath(dataset.path)}, which would be read in place of the hub's data set.",
            where=where,
            fix="run in another folder; a mirror is read with --data-root",
        )


def current_revision(dataset: DatasetSpec, split: str, data_root: Path | None = None) -> str | None:
    """The commit that `load_documents` would read now; None where it is not known.

    Raises:
        DataError: The data set is not to be had.
    """
    if data_root is not None and (found := find_in_mirror(dataset, split, data_root)) is not None:
        return found.revision
    return _ask_hub(dataset, f"hub data set {dataset.path}")


def _ask_hub(dataset: DatasetSpec, where: str) -> str | None:
    """The data set's commit, or None where the hub cannot be reached (`datasets` would go on trying)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().dataset_info(dataset.path, revision=dataset.revision, timeout=HUB_TIMEOUT_SECONDS)
    except GatedRepoError:
        fix = "accept its terms on the hub, then log in with `hf auth login`."
        raise DataError("The data set asks for consent to its terms.", where=where, fix=fix) from None
    except RepositoryNotFoundError:
        fix = "check dataset.path; a private data set needs `hf auth login`."
        raise DataError("The hub has no such data set.", where=where, fix=fix) from None
    except RevisionNotFoundError:
        raise DataError(f'The data set has no revision "{dataset.revision}".', where=where) from None
    except Exception:  # no network, a proxy's page, a time-out: the cache may still have it
        return None
    return info.sha


def _load_error(error: Exception, where: str, *, offline: bool, reached: bool) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if re.search(r"\bscripts?\b", reason, re.IGNORECASE):
        return DataError(
            "The data set needs a script to load, and scripts are not run: they could do anything.",
            where=where,
            fix="try `revision: refs/convert/parquet` under dataset, or save the split as a local file.",
        )
    if reached:
        return DataError(f"The data set cannot be loaded: {reason}", where=where)
    why = "--offline is given" if offline else "the hub cannot be reached"
    return DataError(f"The data set is not in the cache, and {why}.", where=where, fix=_FIX_UNREACHABLE)


@contextlib.contextmanager
def _hub_offline(offline: bool) -> Iterator[None]:
    """Keep `datasets` from retrying for half a minute where there is no hub."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


class _ArrowTable:
    """A `datasets.Dataset` as far as ArrowRows needs a table: rows stay in the memory-mapped cache."""

    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded.with_format("arrow")
        self.num_rows = loaded.num_rows

    def slice(self, offset: int, length: int) -> Any:
        return self.loaded[offset : offset + length]
