"""Write synthetic heads to disk, one file per geometry and appearance.

Run as `python -m headlift_trainer.synthetic.generate`.

A file `head_<seed>_<appearance>.npz` (seed five digits; zip of .npy, deflated) holds, for V views of side S:

=============  ==================  ==============================================================================
name           type, shape         meaning
=============  ==================  ==============================================================================
rgba           uint8 [V,S,S,4]     sRGB multiplied by alpha, alpha
depth          float16 [V,S,S]     m along the optical axis to the nearest surface; 0 where empty
classes        uint8 [V,S,S]       the 19 classes of design.md section 4
viewmats       float32 [V,4,4]     world to camera, OpenCV
Ks             float32 [V,3,3]     pixels
vertices       float32 [N,3]       every vertex of MakeHuman's base mesh in file order (19,158; the skin is the first
                                   13,380), m, canonical frame, expression included: vertex i is the same place on
                                   every head, so (triangle, barycentric) points of the base topology can be tracked
hair_points    float16 [20000,3]   m, random points on opaque hair, even by area; [0,3] where there is no hair mesh
scalp          float16 [N]         0..1, how much of the skin's vertices is painted in the hair's colour
attributes     str [1]             JSON: person, expression, hair, tone, clothes
=============  ==================  ==============================================================================

The first views are the fixed rig (`views.RIG_DEG`), the others random (`views.random_views`). Files are written
whole or not at all, and those that exist are kept: a run can be stopped and started again.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headlift.errors import HeadliftError
from headlift_trainer.synthetic.appearance import Appearance, dress
from headlift_trainer.synthetic.head import HeadAssets, HeadMesh, sample_head
from headlift_trainer.synthetic.views import View, orbit_view, random_views, rig_views

APPEARANCES = 2
_PREVIEW_DEG = ((0, 0), (45, 0), (-90, 0), (180, 0), (-135, 15), (20, 45))
_PREVIEW_GREY = 150


def path_of(folder: Path, seed: int, appearance: int) -> Path:
    """Where a head lies."""
    return folder / f"head_{seed:05d}_{appearance}.npz"


def render_views(
    head: HeadMesh, appearance: Appearance, views: Sequence[View], size: int
) -> dict[str, NDArray[np.generic]]:
    """Everything that a file holds about one dressed head."""
    pictures = [appearance.renderer.draw(view, size) for view in views]
    return {
        "rgba": np.stack([picture.rgba for picture in pictures]),
        "depth": np.stack([picture.depth for picture in pictures]).astype(np.float16),
        "classes": np.stack([picture.classes for picture in pictures]),
        "viewmats": np.stack([view.viewmat for view in views]),
        "Ks": np.stack([view.K for view in views]),
        "vertices": head.base_vertices,
        "hair_points": head.hair.points.astype(np.float16),
        "scalp": head.hair.scalp.astype(np.float16),
        "attributes": np.array([json.dumps(head.attributes() | appearance.attributes)]),
    }


def write_seed(seed: int, assets: HeadAssets, folder: Path, size: int, appearances: int = APPEARANCES) -> int:
    """Write the files of one geometry that are missing; returns how many were written."""
    missing = [index for index in range(appearances) if not path_of(folder, seed, index).is_file()]
    if not missing:
        return 0
    head = sample_head(seed, assets)
    for index in missing:
        rng = np.random.default_rng([seed, index])
        appearance = dress(head, assets, rng)
        views = [*rig_views(size), *random_views(rng, size)]
        _write_arrays(path_of(folder, seed, index), render_views(head, appearance, views, size))
    return len(missing)


def _write_arrays(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """An .npz with fast compression, moved into place when whole."""
    partial = path.with_suffix(f".{os.getpid()}.part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    partial.replace(path)


def generate(root: Path, folder: Path, seeds: Sequence[int], size: int, workers: int = 1) -> Iterator[tuple[int, int]]:
    """Write all seeds; yields (seeds done, files written) as it goes.

    Raises:
        NotFoundError: The asset folder lacks a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    if workers <= 1:
        assets = HeadAssets(root)
        for done, seed in enumerate(seeds, 1):
            written += write_seed(seed, assets, folder, size)
            yield done, written
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads of torch and numba may hang
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(root,)) as pool:
        jobs = [pool.submit(_work, seed, folder, size) for seed in seeds]
        for done, job in enumerate(as_completed(jobs), 1):
            written += job.result()
            yield done, written


_worker_assets: list[HeadAssets] = []


def _start_worker(root: Path) -> None:
    _worker_assets.append(HeadAssets(root))


def _work(seed: int, folder: Path, size: int) -> int:
    return write_seed(seed, _worker_assets[0], folder, size)


def preview(root: Path, seeds: Sequence[int], size: int) -> NDArray[np.uint8]:
    """A contact sheet [rows * size, 8 * size, 3]: one head a row, six fixed views and two random ones, over grey."""
    assets = HeadAssets(root)
    rows = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 0])
        appearance = dress(sample_head(seed, assets), assets, rng)
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
    parser.add_argument("--assets", type=Path, required=True, help="folder that holds makehuman/ and makehuman-assets/")
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
