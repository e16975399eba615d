"""Beards: on whom they grow, and what they are labelled as."""

import numpy as np

from headlift_trainer.synthetic.base.identity import Person
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.classes import FACE
from headlift_trainer.synthetic.hair.beards import STYLES, sample_beard


def person(maleness: float = 0.9, age: float = 0.6) -> Person:
    return Person(maleness, age, {"african": 0.3, "asian": 0.3, "caucasian": 0.4})


def test_beards_grow_on_men_only_and_are_labelled_face(assets):
    body = Body.of(assets.topology, assets.topology.mean)
    seen = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        assert sample_beard(rng, person(maleness=0.1), body).style == "none"
        beard = sample_beard(rng, person(), body)
        seen.add(beard.style)
        assert beard.style in STYLES
        assert ((beard.stubble >= 0) & (beard.stubble <= 1)).all()
        for part, strands in zip(beard.parts, beard.strands, strict=True):
            assert (part.classes == FACE).all()
            assert len(strands.lock) == len(part.vertices)
            assert part.vertices[:, 1].max() < 0.03
    assert len(seen) >= 4
