"""How often the expensive pieces of the model ran in this process.

One head should cost each network one look and each fit one run; ``headlift bench portrait`` prints
what is counted here, and the golden test of the served chain holds it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_total: Counter[str] = Counter()
_lock = threading.Lock()


def count_pass(name: str) -> None:
    """One more run of the network or fit ``name``; a batch is one run."""
    with _lock:
        _total[name] += 1


@contextmanager
def counted_passes() -> Iterator[dict[str, int]]:
    """A dict that holds, after the block, how often each name was counted meanwhile, by any thread of the process."""
    with _lock:
        before = _total.copy()
    passes: dict[str, int] = {}
    try:
        yield passes
    finally:
        with _lock:
            passes.update(sorted((_total - before).items()))
