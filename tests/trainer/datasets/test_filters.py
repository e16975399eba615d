import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headlift_trainer.datasets.filters import (
    evenly,
    held_out,
    in_split,
    occluded,
    occluded_share,
    occlusion_of,
    rank,
    read_list,
    subset,
)


@given(st.integers(0, 500), st.integers(0, 60))
def test_evenly_gives_distinct_indices_in_order(count: int, wanted: int) -> None:
    found = evenly(count, wanted)
    assert len(found) == min(count, wanted)
    assert found == sorted(set(found))
    assert all(0 <= i < count for i in found)


@given(st.text(min_size=1), st.sampled_from(["nersemble", "cafca", "ava256", "vfhq"]))
def test_every_subject_is_in_one_split(subject: str, kind: str) -> None:
    assert in_split(kind, subject, "train") != in_split(kind, subject, "validation")
    assert in_split(kind, subject, "all")


def test_ranks_are_even_and_the_same_everywhere() -> None:
    ranks = np.sort([rank(f"{i:05d}") for i in range(2000)])
    assert np.abs(ranks - np.linspace(0, 1, 2000)).max() < 0.05
    assert subset(["b", "a", "c"], 3) == ["b", "a", "c"]


def test_the_paper_and_ffhq_name_their_held_out_subjects() -> None:
    assert held_out("nersemble", "374")
    assert not held_out("nersemble", "060")
    assert held_out("ava256", "20230914--1105--BXQ083")
    assert held_out("ffhq", "69999")
    assert not held_out("ffhq", "59999")


def test_lists_have_comments_and_reasons(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# head\n00042\n00043 a hand # really\n\n")
    assert read_list(path) == {"00042": "", "00043": "a hand"}
    assert read_list(tmp_path / "none.txt") == {}


def test_occlusions_are_read_from_the_features_file() -> None:
    def face(**parts: bool) -> list[dict[str, object]]:
        return [{"faceAttributes": {"occlusion": parts}}]

    assert occlusion_of(face(eyeOccluded=False)) is None
    assert occlusion_of(face(eyeOccluded=True, mouthOccluded=True)) == "occluded eye and mouth"
    assert occlusion_of([]) is None


def test_a_hand_before_the_face_is_an_occlusion_and_hair_is_not() -> None:
    labels = np.full((100, 100), 2, np.uint8)
    outline = np.array([[20, 20], [80, 20], [80, 80], [20, 80.0]])
    assert occluded_share(labels, outline, (2, 14)) == 0
    labels[:45] = 14  # hair over the forehead
    assert not occluded(occluded_share(labels, outline, (2, 14)))
    labels[60:, :50] = 0
    assert occluded(occluded_share(labels, outline, (2, 14)))
