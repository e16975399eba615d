"""Turn generated shards into anchor targets: `python -m headlift_trainer.synthetic.prepare`.

For each geometry seed one file with the anchor positions (float16 metres), and for each appearance the anchor
colours, how well they were seen, and how far hair covers each patch (uint8). Resumable: what exists is kept.

Heads of MakeHuman and of ICT-FaceKit share MakeHuman's mesh, and with it one correspondence with the template;
procedural heads have their own. Correspondences are fitted once and kept beside the targets.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from functools import partial
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from headlift.errors import NotFoundError
from headlift.model.template import PATCH_SIZE, Template
from headlift_trainer.synthetic.base.assets import MakeHumanAssets
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.generate import APPEARANCES, path_of
from headlift_trainer.synthetic.source.interface import HeadSource
from headlift_trainer.synthetic.source.procedural import ProceduralSource
from headlift_trainer.synthetic.source.seeds import source_of
from headlift_trainer.synthetic.targets import (
    Array,
    Correspondence,
    FanNormals,
    anchor_colors,
    fit_correspondence,
    hair_cover,
    lift_onto_hair,
)
from headlift_trainer.template.build import builtin_template

_HAIR = 14  # of the 19 classes


class TargetMaker:
    """Targets of generated heads for one template and its correspondence with the generator's mesh."""

    def __init__(self, template: Template, correspondence: Correspondence) -> None:
        self._template = template
        self._correspondence = correspondence
        self._normals = FanNormals(template)

    def positions(self, vertices: Array, hair: Array) -> Array:
        """Where the anchors [N, 3] lie on a head with these mesh vertices [V, 3] and hair points [M, 3], m."""
        skin = self._correspondence.points(vertices.astype(np.float64))
        return lift_onto_hair(skin, hair.astype(np.float64), self._template.neighbors.numpy())[0]

    def make(self, shards: list[Path], out: Path) -> None:
        """Write the targets of one geometry, whose appearances are `shards`, to `out` (atomically)."""
        with np.load(shards[0]) as shard:
            vertices, hair = shard["vertices"], shard["hair_points"]
        lifted = self.positions(vertices, hair)
        points = torch.from_numpy(lifted).float()
        normals = torch.from_numpy(self._normals(lifted)).float()
        colors, seen, covers = [], [], []
        for path in shards:
            with np.load(path) as shard:
                rgba = torch.from_numpy(shard["rgba"]).permute(0, 3, 1, 2).float() / 255
                cameras = torch.from_numpy(shard["viewmats"]).float(), torch.from_numpy(shard["Ks"]).float()
                hair = torch.from_numpy(shard["classes"] == _HAIR).float()
            color, weight = anchor_colors(points, normals, rgba, *cameras, self._template.neighbors)
            colors.append((color * 255 + 0.5).byte().numpy())
            seen.append((weight * 255 + 0.5).byte().numpy())
            cover = hair_cover(points, normals, hair, rgba[:, 3], *cameras, self._template.neighbors)
            covers.append((cover.reshape(-1, PATCH_SIZE).mean(1) * 255 + 0.5).byte().numpy())
        temporary = out.with_suffix(f".{os.getpid()}.tmp.npz")
        np.savez(
            temporary,
            means=lifted.astype(np.float16),
            colors=np.stack(colors),
            seen=np.stack(seen),
            hair=np.stack(covers),
            template=self._template.sha256,
        )
        temporary.replace(out)


def appearances(shards: Path, seed: int) -> list[Path]:
    """The shard files of one geometry seed, in order: as many as there are."""
    return list(takewhile(Path.exists, (path_of(shards, seed, i) for i in range(APPEARANCES))))


def target_path(targets: Path, seed: int) -> Path:
    """Where the targets of one geometry seed lie."""
    return targets / f"{seed:06d}.npz"


class TargetMakers:
    """The maker of each source's targets, made when first asked for; correspondences are kept in a folder."""

    def __init__(self, template: Template, kept: Path, assets: Path | None) -> None:
        """`assets` is the asset folder that the shards were made from; None where all heads are procedural."""
        self._template, self._kept, self._assets = template, kept, assets
        self._makers: dict[str, TargetMaker] = {}

    def __getitem__(self, seed: int) -> TargetMaker:
        """The maker for a seed."""
        mesh = "procedural" if source_of(seed) == "procedural" else "makehuman"
        if mesh not in self._makers:
            self._makers[mesh] = TargetMaker(self._template, self._correspondence(mesh))
        return self._makers[mesh]

    def _correspondence(self, mesh: str) -> Correspondence:
        path = self._kept / ("correspondence.npz" if mesh == "makehuman" else f"correspondence_{mesh}.npz")
        if not path.exists():
            fit = partial(correspondence_of, self._template, ProceduralSource())
            if mesh == "makehuman":
                if self._assets is None:
                    raise NotFoundError("These heads stand on MakeHuman's mesh; give the asset folder with --assets.")
                fit = partial(correspondence_with_assets, self._template, self._assets)
            self._kept.mkdir(parents=True, exist_ok=True)
            save_correspondence(path, fit(), self._template)
        return load_correspondence(path, self._template)


def prepare(shards: Path, out: Path, seeds: Iterable[int], makers: TargetMakers | TargetMaker) -> int:
    """Make the targets that are missing; returns how many were made. One maker serves seeds of one source."""
    out.mkdir(parents=True, exist_ok=True)
    made = 0
    for seed in tqdm(list(seeds), desc="targets", unit="head"):
        target, files = target_path(out, seed), appearances(shards, seed)
        if files and not _is_whole(target, len(files)):
            maker = makers if isinstance(makers, TargetMaker) else makers[seed]
            maker.make(files, target)
            made += 1
    return made


def _is_whole(target: Path, count: int) -> bool:
    """Whether targets of ``count`` appearances are there, with all that they hold today."""
    if not target.exists():
        return False
    with np.load(target) as found:
        return "hair" in found and len(found["colors"]) >= count


def correspondence_of(template: Template, source: HeadSource) -> Correspondence:
    """Lay the template onto the mean head of a source."""
    mesh = source.base_mesh()
    return fit_correspondence(template, mesh.vertices.astype(np.float64), mesh.triangles.astype(np.int64))


def correspondence_with_assets(template: Template, root: Path) -> Correspondence:
    """Lay the template onto the mean head of an asset folder: its skin without mouth and sockets, and its eyeballs."""
    assets = MakeHumanAssets(root)
    topology = Topology(assets)
    pocket = topology.mouth_inside | topology.eye_socket
    skin = topology.triangles[~pocket[topology.triangles].any(1)]
    eyes = assets.base.triangles[np.isin(assets.base.groups, ("helper-l-eye", "helper-r-eye"))]
    mean = topology.mean.astype(np.float64)
    # Only the bust: anchors must never be pulled down an arm.
    skin = skin[mean[skin][:, :, 1].min(1) > mean[topology.eye_socket, 1].mean() - 0.32]
    return fit_correspondence(template, mean, np.concatenate([skin, eyes]))


def load_correspondence(path: Path, template: Template) -> Correspondence:
    """Read what `save_correspondence` wrote for this template."""
    with np.load(path) as file:
        if str(file["template"]) != template.sha256:
            raise ValueError(f"{path.name} was fitted to another template; fit it again.")
        return Correspondence(file["triangles"], file["barycentric"])


def save_correspondence(path: Path, correspondence: Correspondence, template: Template) -> None:
    """Keep a correspondence beside the targets that were made with it."""
    np.savez(path, triangles=correspondence.triangles, barycentric=correspondence.barycentric, template=template.sha256)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, help="asset folder of the shards; not needed for procedural heads")
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--start", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    makers = TargetMakers(builtin_template(), args.out, args.assets)
    prepare(args.shards, args.out, range(args.start, args.start + args.count), makers)


if __name__ == "__main__":
    main()
