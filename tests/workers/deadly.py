"""Workers that die: as a machine would have it, not as Python would."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmeval.workers.messages import Chunk
from lmeval.workers.shards import Shard
from lmeval.workers.worker import Job, Worker

DEADLY = "deadly"  # a text that kills whoever is to score it
FLAG = "LMEVAL_TEST_DIED"  # a file; where it is not there, the first worker that has delivered makes it, and dies


class DeadlyWorker(Worker):
    """Kills itself (SIGKILL) over a deadly text; and once, where FLAG says so, in the middle of a shard."""

    def __init__(self, options: Any, threads: int, folder: str, caches: str | None) -> None:
        super().__init__(options, threads, folder, caches)
        self.flag = Path(caches or ".") / FLAG

    def run(self, job: Job, shard: Shard, of: Any) -> Iterator[Chunk]:
        """As a worker's, up to the death of it."""
        requests, inside = self._open(job).requests, (of >= shard.first) & (of < shard.end)
        sizes = self.job.plan.sizes if self.job and self.job.plan else [1] * len(requests)
        place = 0
        for request, size in zip(requests, sizes, strict=True):
            if DEADLY in getattr(request, "target", "") and inside[place : place + size].any():
                os.kill(os.getpid(), signal.SIGKILL)
            place += size
        for number, chunk in enumerate(super().run(job, shard, of)):
            yield chunk
            if (self.flag.parent / "die").exists() and not self.flag.exists():
                self.flag.write_text(str(number))
                os.kill(os.getpid(), signal.SIGKILL)
