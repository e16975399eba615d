"""bench batch: portraits a second of a batch, with one and two workers, and of the embedded server in a loop."""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from headlift.commands.demo import portrait_bytes
from headlift.commands.session import Subparsers, add_command, add_network_options, emit, say, settings_of
from headlift.errors import InvalidInputError
from headlift.settings import Settings

_WORKERS = (1, 2)


def register(kinds: Subparsers) -> None:
    """Add the command below ``bench``."""
    parser = add_command(
        kinds, "batch", "portraits a second: batches with 1 and 2 workers, the server in a loop", batch
    )
    parser.add_argument("--items", type=int, default=40, help="portraits of each measurement (default: 40)")
    add_network_options(parser)


@dataclass
class _Clock:
    """Times items from the first that is finished on: loading the network is measured apart."""

    begin: float
    first: float = 0.0
    last: float = 0.0
    count: int = 0

    def tick(self) -> None:
        """Another item is finished."""
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.count += 1

    def metrics(self) -> dict[str, float]:
        """items_per_s (once it runs), ready_s (until the first is finished), wall_s."""
        spent = self.last - self.first
        return {
            "items_per_s": (self.count - 1) / spent if spent else 0.0,
            "ready_s": self.first - self.begin,
            "wall_s": self.last - self.begin,
        }


def batch(args: argparse.Namespace) -> int:
    """``headlift bench batch``: the same portraits, each to a stored head without refinement, nothing cached."""
    if not 4 <= args.items <= 100_000:
        raise InvalidInputError(f"items is {args.items}; it must lie in 4..100000.", field="items")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="headlift-bench-") as scratch:
        root = Path(scratch)
        settings = settings_of(args, cache_stages=False, refine_steps=0, data_dir=root / "server", port=0)
        pictures = _portraits(root / "in", args.items)
        say(args, "the embedded server, called in a loop")
        results["server loop"] = _server(settings, pictures)
        say(args, "a batch in this process")
        results["batch, no Ray"] = _batch(settings, root / "in", root / "local", _local)
        with _ray():
            for workers in _WORKERS:
                say(args, f"a batch on Ray with {workers} worker{'s' * (workers > 1)}")
                name = f"batch, Ray x {workers}"
                results[name] = _batch(settings, root / "in", root / str(workers), partial(_pool, workers))
    lines = [f"{'':16}{'items/s':>10}{'ready s':>10}{'wall s':>10}"]
    lines += [f"{k:16}{f['items_per_s']:10.2f}{f['ready_s']:10.1f}{f['wall_s']:10.1f}" for k, f in results.items()]
    emit(args, results, "\n".join(lines))
    return 0


def _portraits(folder: Path, count: int) -> list[bytes]:
    """Files that are not equal."""
    from PIL import Image

    folder.mkdir()
    _, picture = portrait_bytes(None)
    with Image.open(io.BytesIO(picture)) as opened:
        source = opened.convert("RGB")
    made = []
    for i in range(count):
        buffer = io.BytesIO()
        source.crop((0, 0, source.width, source.height - i % 64)).save(buffer, "JPEG", quality=90 + i // 64 % 10)
        made.append(buffer.getvalue())
        (folder / f"{i:05d}.jpg").write_bytes(made[-1])
    return made


def _server(settings: Settings, pictures: list[bytes]) -> dict[str, float]:
    from headlift.client import HeadliftClient
    from headlift.serving.background import BackgroundServer

    clock = _Clock(time.perf_counter())
    with BackgroundServer(settings) as server, HeadliftClient(server.address) as client:
        for picture in pictures:
            client.create_head(picture)
            clock.tick()
    return clock.metrics()


def _batch(settings: Settings, source: Path, out: Path, choose: Callable[[], tuple[Any, int]]) -> dict[str, float]:
    from headlift.batch.output_spec import OutputSpec
    from headlift.batch.run import Job, run

    workforce, workers = choose()
    clock = _Clock(time.perf_counter())
    spec = OutputSpec(exports=("wire",), views=())
    # Blocks of one item report each when it is finished, which costs a little.
    job = Job(str(source), str(out), spec, settings, block_items=1)
    run(job, workforce, workers=workers, progress=lambda *_: clock.tick())
    return clock.metrics()


def _local() -> tuple[Any, int]:

    from headlift.batch.run import run_local

    return run_local, 1


def _pool(workers: int) -> tuple[Any, int]:
    from headlift.batch.ray_data import Pool, pooled

    return pooled(Pool(workers)), workers


@contextmanager
def _ray() -> Iterator[None]:
    from headlift.serving.ray_app import connected

    with connected(""):
        yield
