"""The driver of a batch as a process of its own, so that tests can interrupt and kill it.

``python batch_driver.py MANIFEST OUT WEIGHTS RASTERIZER ADDRESS LOG``: two workers in the Ray cluster at ADDRESS. Every
look at a picture goes to LOG as ``SHA256 PID``; a picture that ends in ``POISON`` kills the worker that looks at it.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from headlift.batch.job import Wanted
from headlift.batch.ray_data import Pool, pooled
from headlift.batch.run import Job, load_computing, run
from headlift.serving.ray_app import connected
from headlift.settings import Settings

POISON = b"kills whoever looks"
BYTES_MAX = 100_000
WANTED = Wanted(exports=("spz_v3",), size=64)


class Noted:
    """Stages that write down what they look at, and that poison kills."""

    def __init__(self, log: str) -> None:
        self.log = log

    def __call__(self, settings: Settings) -> Any:
        """Load the stages."""
        computing = load_computing(settings)
        log, look = Path(self.log), computing.look

        def noting(picture: bytes, options: Any, token: Any) -> Any:
            with log.open("a") as file:
                file.write(f"{hashlib.sha256(picture).hexdigest()} {os.getpid()}\n")
            if picture.endswith(POISON):
                os.kill(os.getpid(), signal.SIGKILL)
            return look(picture, options, token)

        return type(computing)(noting, computing.reconstruct, computing.draw)


def main(manifest: str, out: str, weights: str, rasterizer: str, address: str, log: str) -> None:
    """Run the batch."""
    settings = Settings(
        weights=Path(weights), device="cpu", rasterizer=rasterizer, threads=1, picture_bytes_max=BYTES_MAX
    )
    job = Job(manifest, out, WANTED, settings, block_items=4, hourly_cost=1.0, load=Noted(log))
    with connected(address):
        run(job, pooled(Pool(actors=2, cpus=0.01)), workers=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
