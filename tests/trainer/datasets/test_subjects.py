"""The people that are never trained on."""

from headlift_trainer.datasets.subjects import AVA256_SUBJECTS, NERSEMBLE_SUBJECTS


def test_the_subjects_are_the_papers() -> None:
    assert len(AVA256_SUBJECTS) == len(set(AVA256_SUBJECTS)) == 11
    assert len(NERSEMBLE_SUBJECTS) == 5
