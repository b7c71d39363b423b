"""Which documents of a task are not independent: several questions about one passage, several parts of one page.

A model that misreads a passage misses all its questions at once, so an interval over documents must treat them as
one draw. A task file says what documents share by its key `cluster`; where it does not, columns are looked through
for a passage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lmeval.records import Document

MIN_PASSAGE_BYTES = 100  # UTF-8: as much text in any script; what is shorter may be equal by chance
MIN_SHARE = 0.05  # of the documents: fewer that share a text are repeated by accident


def passage_clusters(documents: Sequence[Document]) -> list[str | None]:
    """Each document's cluster, None for one that shares nothing; in time linear in the text.

    A text of at least MIN_PASSAGE_BYTES is shared where documents that differ elsewhere have it in one column. A
    column is a passage column where at least MIN_SHARE of the documents have a shared text in it and not all have the
    same one (which is then an instruction). Documents that have the same text in the passage column are a cluster;
    of several such columns the one with the fewest texts decides, as an article that holds several passages.

    A cluster's name is a hash of its text: it does not change with --limit, nor with what else the split holds.
    """
    found: tuple[int, str] | None = None
    for column in sorted({name for document in documents for name in document.columns}):
        shared = _shared_texts(documents, column)
        bound = sum(_passage(document, column) in shared for document in documents)
        is_instruction = len(shared) == 1 and bound == len(documents)
        if shared and not is_instruction and bound >= MIN_SHARE * len(documents):
            found = min(found or (len(shared), column), (len(shared), column))
    if found is None:
        return [None] * len(documents)
    column = found[1]
    shared = _shared_texts(documents, column)
    passages = [_passage(document, column) for document in documents]
    return [cluster_id(passage) if passage in shared else None for passage in passages]


def cluster_id(text: str | None) -> str | None:
    """A short name for documents that share a text; None where there is none to share."""
    if text is None or not text.strip():
        return None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _shared_texts(documents: Sequence[Document], column: str) -> set[str | None]:
    """The passages of a column that at least two different documents have."""
    first: dict[str, str] = {}
    shared: set[str | None] = set()
    for document in documents:
        passage = _passage(document, column)
        if passage is not None and first.setdefault(passage, document.sha256) != document.sha256:
            shared.add(passage)
    return shared


def _passage(document: Document, column: str) -> str | None:
    """A column's text, where it is long enough to be one."""
    text = document.columns.get(column)
    if not isinstance(text, str) or len(text) * 4 < MIN_PASSAGE_BYTES:
        return None
    long_enough = (
        len(text) >= MIN_PASSAGE_BYTES or len(text.encode("utf-8", "surrogatepass")) >= MIN_PASSAGE_BYTES
    )
    return text if long_enough else None
