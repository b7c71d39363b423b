"""Every kind of hostile input. A kind more is an entry more: what makes inputs, and what is done with one."""

from __future__ import annotations

from tests.fuzz.documents import DOCUMENT_KINDS
from tests.fuzz.gates import GATE_KINDS
from tests.fuzz.kind import Kind
from tests.fuzz.mirrors import MIRROR_KINDS
from tests.fuzz.runs import RUN_KINDS
from tests.fuzz.tasks import TASK_KINDS
from tests.fuzz.templates import TEMPLATE_KINDS

KINDS: dict[str, Kind] = TASK_KINDS | TEMPLATE_KINDS | DOCUMENT_KINDS | GATE_KINDS | RUN_KINDS | MIRROR_KINDS
