"""The driver of a batch as a process of its own, so that tests can interrupt and kill it.

``python batch_driver.py MANIFEST OUT WEIGHTS RASTERIZER ADDRESS LOG``: two workers in the Ray cluster at ADDRESS. Every
picture that is preprocessed goes to LOG as ``SHA256 PID``; one that ends in ``POISON`` kills its worker.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from headlift.batch.output_spec import OutputSpec
from headlift.batch.ray_data import Pool, pooled
from headlift.batch.run import Job, load_backend, run
from headlift.serving.ray_app import connected
from headlift.settings import Settings

POISON = b"kills whoever looks"
BYTES_MAX = 100_000
SPEC = OutputSpec(exports=("spz_v3",), size=64)


class Logged:
    """A backend that logs what it preprocesses, and that poison kills."""

    def __init__(self, log: str) -> None:
        self.log = log

    def __call__(self, settings: Settings) -> Any:
        """Load the backend."""
        backend = load_backend(settings)
        log, preprocess = Path(self.log), backend.preprocess

        def logged(picture: bytes, options: Any, token: Any) -> Any:
            with log.open("a") as file:
                file.write(f"{hashlib.sha256(picture).hexdigest()} {os.getpid()}\n")
            if picture.endswith(POISON):
                os.kill(os.getpid(), signal.SIGKILL)
            return preprocess(picture, options, token)

        backend.preprocess = logged
        return backend


def main(manifest: str, out: str, weights: str, rasterizer: str, address: str, log: str) -> None:
    """Run the batch."""
    settings = Settings(
        weights=Path(weights), device="cpu", rasterizer=rasterizer, threads=1, picture_bytes_max=BYTES_MAX
    )
    job = Job(manifest, out, SPEC, settings, block_items=4, hourly_cost=1.0, load=Logged(log))
    with connected(address):
        run(job, pooled(Pool(actors=2, cpus=0.01)), workers=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
