"""What a generated head's file holds, and how it is read: pictures, labels, light, landmarks, words.

Version 2 of the format adds to version 1 everything from `normals` on; names and meanings of version 1 are kept, so
its readers read both.

Legend: V views of side S, N vertices of the source's base mesh.

==================  ==================  =========================================================================
name                type, shape         meaning
==================  ==================  =========================================================================
rgba                uint8 [V,S,S,4]     sRGB multiplied by alpha, alpha
depth               float16 [V,S,S]     m along the optical axis to the nearest surface; 0 where empty
classes             uint8 [V,S,S]       the 19 classes of design.md section 4
viewmats            float32 [V,4,4]     world to camera, OpenCV
Ks                  float32 [V,3,3]     pixels; random views may have a focal length of their own
vertices            float32 [N,3]       every vertex of the source's base mesh, m, canonical frame, expression included:
                                        vertex i is the same place on every head of the source. MakeHuman's and ICT's
                                        heads share MakeHuman's mesh (19,158; the skin is the first 13,380)
hair_points         float16 [20000,3]   m, random points on opaque hair, even by area; [0,3] where there is no hair
scalp               float16 [N]         0..1, how much of the skin's vertices is painted in the hair's colour
attributes          str [1]             JSON: person, expression, hair, tone, clothes
normals             int8 [V,S,S,3]      canonical frame, unit times 127, bumps included; 0 where empty
albedo              uint8 [V,S,S,3]     sRGB multiplied by alpha, before light; 255 stands for 1 and more
light_sh            float32 [9,3]       environment: linear radiance in real spherical harmonics of the canonical frame,
                                        order of `render.lighting.sh_basis`
key_direction       float32 [3]         unit, toward the light that casts shadows
key_color           float32 [3]         its irradiance of a surface that faces it, over pi, linear
fill_direction      float32 [3]         of a second light; key_direction where there is none
fill_color          float32 [3]         0 where there is none
landmarks3d         float32 [68,3]      m, iBUG's order; brows as they are drawn
landmarks2d         float32 [V,68,2]    pixels, centres at +0.5; may lie outside; NaN behind the camera
landmark_visible    bool [V,68]         in the picture and hidden by nothing
expression_code     float32 [53]        0..1, weights of ICT-FaceKit's expressions (`source.expressions.EXPRESSIONS`)
source              str [1]             makehuman, ict or procedural
identity            str [1]             names the person: the same in all appearances
caption             str [1]             the attributes in words
version             int32 [1]           2
==================  ==================  =========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.captions import caption
from headlift_trainer.synthetic.render.lighting import Light
from headlift_trainer.synthetic.render.renderer import RenderedImage
from headlift_trainer.synthetic.render.views import View
from headlift_trainer.synthetic.source.interface import Dressing, SourceHead
from headlift_trainer.synthetic.source.landmarks import drawn_brows, project_landmarks, visible_landmarks
from headlift_trainer.synthetic.source.seeds import source_of

FORMAT_VERSION = 2
Arrays = dict[str, NDArray[np.generic]]


def identity_of(seed: int) -> str:
    """The name of the person that a seed draws."""
    return f"{source_of(seed)}-{seed:05d}"


def shard_arrays(
    head: SourceHead, dressing: Dressing, views: Sequence[View], size: int, rng: np.random.Generator
) -> Arrays:
    """Everything that a file holds about one dressed head, by name; the caption's words are drawn from `rng`."""
    pictures = [dressing.renderer.draw(view, size) for view in views]
    attributes = head.attributes() | dressing.attributes
    return (
        _pictures(pictures, views)
        | {
            "vertices": head.base_vertices,
            "hair_points": head.hair_points.astype(np.float16),
            "scalp": head.scalp.astype(np.float16),
            "attributes": np.array([json.dumps(attributes)]),
            "expression_code": head.expression_code.astype(np.float32),
            "source": np.array([source_of(head.seed)]),
            "identity": np.array([identity_of(head.seed)]),
            "caption": np.array([caption(attributes, rng)]),
            "version": np.array([FORMAT_VERSION], np.int32),
        }
        | light_arrays(dressing.renderer.light)
        | landmark_arrays(drawn_brows(dressing.renderer, head.landmarks), pictures, views)
    )


def light_arrays(light: Light) -> Arrays:
    """The light by name; a head has one key light or two."""
    none = np.zeros(3, np.float32)
    return {
        "light_sh": light.sh.astype(np.float32),
        "key_direction": light.key_direction[0].astype(np.float32),
        "key_color": light.key_color[0].astype(np.float32),
        "fill_direction": light.key_direction[-1].astype(np.float32),
        "fill_color": light.key_color[1].astype(np.float32) if len(light.key_color) > 1 else none,
    }


def landmark_arrays(landmarks: Floats, pictures: Sequence[RenderedImage], views: Sequence[View]) -> Arrays:
    """Landmarks [68, 3] m in space and in every picture."""
    projected = [project_landmarks(landmarks, view) for view in views]
    seen = [
        visible_landmarks(*found, view, picture.depth)
        for found, view, picture in zip(projected, views, pictures, strict=True)
    ]
    return {
        "landmarks3d": landmarks.astype(np.float32),
        "landmarks2d": np.stack([pixels for pixels, _ in projected]),
        "landmark_visible": np.stack(seen),
    }


def _pictures(pictures: Sequence[RenderedImage], views: Sequence[View]) -> Arrays:
    return {
        "rgba": np.stack([picture.rgba for picture in pictures]),
        "depth": np.stack([picture.depth for picture in pictures]).astype(np.float16),
        "classes": np.stack([picture.classes for picture in pictures]),
        "normals": np.stack([picture.normals for picture in pictures]),
        "albedo": np.stack([picture.albedo for picture in pictures]),
        "viewmats": np.stack([view.viewmat for view in views]),
        "Ks": np.stack([view.K for view in views]),
    }
