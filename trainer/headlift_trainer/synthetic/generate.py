"""Write synthetic heads to disk, one file `head_<seed>_<appearance>.npz` per geometry and appearance.

`headlift synth` is the command; `python -m headlift_trainer.synthetic.generate` does the same with fewer options.
`synthetic.labels` says what a file holds. Files are zips of .npy, deflated; they are written whole or not at all, and
those that exist are kept: a run can be stopped and started again.

With the preset `rig` the first views are the fixed rig (`render.views.RIG_DEG`), the others random
(`render.views.random_views`).
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headlift.errors import HeadliftError, InvalidInputError
from headlift_trainer.synthetic.labels import Arrays, shard_arrays
from headlift_trainer.synthetic.render.views import PRESETS, orbit_view, preset_views, random_views
from headlift_trainer.synthetic.source.registry import Sources
from headlift_trainer.synthetic.source.seeds import SEED_RANGES

APPEARANCES = 2
SIZES = range(16, 2049)
_PREVIEW_DEG = ((0, 0), (45, 0), (-90, 0), (180, 0), (-135, 15), (20, 45))
_PREVIEW_GREY = 150
CAPTION_STREAM = 7  # keeps the words of a caption apart from all other draws


@dataclass(frozen=True)
class ShardOptions:
    """What is drawn of every head.

    Raises:
        InvalidInputError: A value out of range.
    """

    size: int = 256  # side of a picture, pixels
    views: str = "rig"  # one of views.PRESETS
    appearances: int = APPEARANCES  # of every geometry
    random_focal: bool = False  # random views have a focal length of their own

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InvalidInputError(
                f"A side of {self.size} px is not in {SIZES.start}..{SIZES.stop - 1}; choose another."
            )
        if self.views not in PRESETS:
            raise InvalidInputError(f"There is no preset of views {self.views!r}; there are {', '.join(PRESETS)}.")
        if not 1 <= self.appearances <= 10:
            raise InvalidInputError(f"{self.appearances} appearances are not in 1..10; file names have one digit.")


def path_of(folder: Path, seed: int, appearance: int) -> Path:
    """Where a head lies."""
    return folder / f"head_{seed:05d}_{appearance}.npz"


def write_seed(seed: int, sources: Sources, folder: Path, options: ShardOptions) -> int:
    """Write the files of one geometry that are missing; returns how many were written."""
    missing = [index for index in range(options.appearances) if not path_of(folder, seed, index).is_file()]
    if not missing:
        return 0
    head = sources[seed].head(seed)
    for index in missing:
        rng = np.random.default_rng([seed, index])
        dressing = head.dress(rng)
        views = preset_views(options.views, rng, options.size, random_focal=options.random_focal)
        words = np.random.default_rng([seed, index, CAPTION_STREAM])
        _write_arrays(path_of(folder, seed, index), shard_arrays(head, dressing, views, options.size, words))
    return len(missing)


def _write_arrays(path: Path, arrays: Arrays) -> None:
    """An .npz with fast compression, moved into place when whole."""
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(f"{name}.npy", buffer.getvalue())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def generate(
    root: Path | None,
    folder: Path,
    seeds: Sequence[int],
    size: int = 256,
    workers: int = 1,
    *,
    views: str = "rig",
    appearances: int = APPEARANCES,
    random_focal: bool = False,
) -> Iterator[tuple[int, int]]:
    """Write all seeds; yields (seeds done, files written) as it goes.

    Args:
        root: The asset folder; None makes procedural heads only.
        folder: Where the files go; it is made if need be.
        seeds: Of the geometries; they name the sources (`source.seeds.SEED_RANGES`).
        size: Side of a picture, pixels.
        workers: Processes; each holds the assets (about 0.6 GB).
        views: One of `render.views.PRESETS`.
        appearances: Of every geometry.
        random_focal: Random views have a focal length of their own; readers must then heed `Ks`.

    Raises:
        NotFoundError: The asset folder lacks a file.
        InvalidInputError: An option is out of range, or a seed belongs to no source.
    """
    options = ShardOptions(size, views, appearances, random_focal)
    stray = [seed for seed in seeds if not any(seed in known for known in SEED_RANGES.values())]
    if stray:
        last = max(known.stop for known in SEED_RANGES.values()) - 1
        raise InvalidInputError(f"Seed {stray[0]} belongs to no source; seeds are 0..{last}.")
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    if workers <= 1:
        sources = Sources(root)
        for done, seed in enumerate(seeds, 1):
            written += write_seed(seed, sources, folder, options)
            yield done, written
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads of torch and numba may hang
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(root,)) as pool:
        jobs = [pool.submit(_work, seed, folder, options) for seed in seeds]
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                written += job.result()
                yield done, written
        finally:  # after an error or when the caller stops, what has not begun is not waited for
            pool.shutdown(wait=True, cancel_futures=True)


_worker_sources: list[Sources] = []


def _start_worker(root: Path | None) -> None:
    _worker_sources.append(Sources(root))


def _work(seed: int, folder: Path, options: ShardOptions) -> int:
    return write_seed(seed, _worker_sources[0], folder, options)


def preview(root: Path | None, seeds: Sequence[int], size: int) -> NDArray[np.uint8]:
    """A plain sheet [rows * size, 8 * size, 3]: one head a row, six fixed views and two random ones, over grey.

    `contact_sheet.contact_sheet` shows labels too.
    """
    sources = Sources(root)
    rows = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 0])
        appearance = sources[seed].head(seed).dress(rng)
        views = [orbit_view(yaw, pitch, size) for yaw, pitch in _PREVIEW_DEG] + random_views(rng, size)[:2]
        pictures = [appearance.renderer.draw(view, size).rgba for view in views]
        rows.append(
            np.concatenate(
                [rgba[..., :3] + ((255 - rgba[..., 3:]) / 255 * _PREVIEW_GREY).astype(np.uint8) for rgba in pictures], 1
            )
        )
    return np.concatenate(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m headlift_trainer.synthetic.generate", description="Render synthetic heads."
    )
    parser.add_argument("--assets", type=Path, help="folder that holds makehuman/, makehuman-assets/ and ict-facekit/")
    parser.add_argument("--out", type=Path, help="folder to write heads to")
    parser.add_argument("--preview", type=Path, help="write a contact sheet to this picture instead")
    parser.add_argument("--count", type=int, default=8, help="how many geometries")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--size", type=int, default=256, help="side of a picture, pixels")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    seeds = range(options.start, options.start + options.count)
    try:
        if options.preview is not None:
            Image.fromarray(preview(options.assets, seeds, options.size)).save(options.preview)
            return 0
        if options.out is None:
            parser.error("give --out DIR or --preview FILE")
        _report(generate(options.assets, options.out, seeds, options.size, options.workers), len(seeds))
    except HeadliftError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def _report(progress: Iterator[tuple[int, int]], total: int) -> None:
    start = time.monotonic()
    for done, written in progress:
        if done % 10 == 0 or done == total:
            spent = time.monotonic() - start
            left = spent / done * (total - done)
            sys.stdout.write(f"{done}/{total} heads, {written} files written, {spent:.0f} s, {left:.0f} s left\n")
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
