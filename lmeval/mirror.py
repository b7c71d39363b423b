"""A mirror of hub data sets: `DIR/<data set path>/<configuration or "default">/<split>.jsonl` or `.parquet`.

Of a file that `lmeval data pull` wrote, `DIR/.manifests/<the same path>.json` says the hub's commit, the hash and who
wrote it. A file that differs from its manifest is refused; one without is read as it is. Names of data sets,
configurations and splits cannot lead out of the mirror; links in it are followed, since the mirror is the user's own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import lmeval
from lmeval.errors import DataError
from lmeval.paths import is_path_part, open_file
from lmeval.records import Document
from lmeval.specs import DatasetSpec

SUFFIXES = (".jsonl", ".parquet")
MANIFESTS = ".manifests"
MAX_MANIFEST_BYTES = 100_000
_PULL_AGAIN = "pull it again: `lmeval data pull --tasks TASK --to DIR` on a connected machine"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a pulled file is."""

    path: str  # of the data set
    name: str | None  # configuration
    split: str
    asked_revision: str | None  # as the task has it
    revision: str | None  # the hub's commit
    sha256: str
    num_bytes: int
    num_documents: int
    lmeval: str  # the version that wrote it


@dataclass(frozen=True, slots=True)
class Found:
    """A split in a mirror."""

    file: Path
    revision: str | None = None


def mirror_file(dataset: DatasetSpec, split: str, root: Path) -> Path:
    """The .jsonl file of a split in a mirror.

    Raises:
        DataError: A part of the name would leave the mirror.
    """
    parts = [*dataset.path.split("/"), dataset.name or "default", split]
    for part in parts:
        if not is_path_part(part):
            raise DataError(
                f'"{part}" cannot be a part of a path in a mirror.', where=f"data set {dataset.path}"
            )
    return root.joinpath(*parts[:-1], f"{split}{SUFFIXES[0]}")


def find_in_mirror(dataset: DatasetSpec, split: str, root: Path) -> Found | None:
    """The file of a split, held to its manifest where it has one; None where there is no file.

    Raises:
        DataError: There is no such mirror, the file was changed, or is of another revision than the task asks for.
    """
    if not root.is_dir():
        raise DataError(
            "There is no such mirror folder.", where=str(root), fix="Check --data-root or LMEVAL_DATA."
        )
    file = mirror_file(dataset, split, root)
    found = next((one for suffix in SUFFIXES if (one := file.with_name(split + suffix)).exists()), None)
    if found is None:
        return None
    manifest = read_manifest(found, root)
    if manifest is None:
        return Found(found)
    if dataset.revision not in (manifest.asked_revision, manifest.revision):
        raise DataError(
            f"The mirror holds revision {manifest.asked_revision or manifest.revision}; the task asks for "
            f"{dataset.revision or 'the newest'}.",
            where=str(found),
            fix=_PULL_AGAIN,
        )
    if not _is_as_written(found, manifest):
        raise DataError(
            "The file was changed after it was pulled: it differs from its manifest.",
            where=f"{found} and {manifest_file(found, root)}",
            fix=f"{_PULL_AGAIN}, or delete the manifest if you changed the file yourself",
        )
    return Found(found, manifest.revision)


def is_current(dataset: DatasetSpec, split: str, root: Path, revision: str | None) -> bool:
    """Whether the split's file is whole and of this commit, so that it need not be pulled again."""
    file = mirror_file(dataset, split, root)
    try:
        manifest = read_manifest(file, root) if file.is_file() else None
        return (
            manifest is not None
            and revision is not None
            and (manifest.revision, manifest.asked_revision) == (revision, dataset.revision)
            and _is_as_written(file, manifest)
        )
    except DataError:  # a damaged one is written anew
        return False


def manifest_file(file: Path, root: Path) -> Path:
    """Where a mirror file's manifest lies."""
    place = root / MANIFESTS / file.relative_to(root)
    return place.with_name(f"{place.name}.json")


def read_manifest(file: Path, root: Path) -> Manifest | None:
    """The manifest of a mirror file; None where it has none.

    Raises:
        DataError: It is damaged.
    """
    place = manifest_file(file, root)
    if not place.exists():
        return None
    with open_file(place) as stream:
        raw = stream.read(MAX_MANIFEST_BYTES)
    try:
        return Manifest(**json.loads(raw))
    except (ValueError, TypeError, RecursionError):
        raise DataError("The manifest is damaged.", where=str(place), fix=_PULL_AGAIN) from None


def _is_as_written(file: Path, manifest: Manifest) -> bool:
    with open_file(file) as stream:
        if os.fstat(stream.fileno()).st_size != manifest.num_bytes:
            return False
        return hashlib.file_digest(stream, "sha256").hexdigest() == manifest.sha256


def write_mirror(
    documents: Iterable[Document], dataset: DatasetSpec, split: str, root: Path, revision: str | None = None
) -> None:
    """Write documents as JSON Lines, then the manifest; each aside first, so that half a file is never read.

    A file without a manifest is whole, too: the old manifest goes before the new file comes.

    Raises:
        DataError: A file cannot be written.
    """
    num_documents = 0
    file = mirror_file(dataset, split, root)
    manifest = manifest_file(file, root)

    def write(out: TextIO) -> None:
        nonlocal num_documents
        for document in documents:
            out.write(json.dumps(document.columns, ensure_ascii=False, default=str) + "\n")
            num_documents += 1

    try:
        for folder in (file.parent, manifest.parent):
            folder.mkdir(parents=True, exist_ok=True)
        _replace(file, write, before=lambda: manifest.unlink(missing_ok=True))
        with file.open("rb") as stream:
            digest, size = hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()
        known = (dataset.path, dataset.name, split, dataset.revision, revision)
        value = Manifest(*known, digest, size, num_documents, lmeval.__version__)
        _replace(manifest, lambda out: out.write(json.dumps(asdict(value), indent=1) + "\n"))
    except OSError as error:
        raise DataError(f"The mirror cannot be written: {error.strerror}.", where=str(file)) from None


def _replace(
    file: Path, write: Callable[[TextIO], object], before: Callable[[], object] = lambda: None
) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        before()
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
