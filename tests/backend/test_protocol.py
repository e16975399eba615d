import pytest

from headlift.backend.protocol import HeadRef
from headlift.errors import NotFoundError
from headlift.store.heads import HeadName

NAME = HeadName("a", "h1")


class Heads:
    """Notes what is read."""

    def __init__(self, missing=False):
        self.reads, self.missing = [], missing

    def _read(self, what):
        self.reads.append(what)
        if self.missing:
            raise NotFoundError("There is none.")
        return what

    def get(self, name):
        return self._read("record")

    def packed(self, name):
        return self._read("packed")

    def gaussians(self, name):
        return self._read("gaussians")


def test_a_stored_head_is_read_when_it_is_asked_for_and_once():
    heads = Heads()
    head = HeadRef.stored(heads, NAME)
    assert (head.key, heads.reads) == (str(NAME), [])
    for _ in range(2):
        assert head.unpacked() == "gaussians"
    assert heads.reads == ["gaussians"]


def test_its_check_reads_the_record_alone_and_once():
    heads = Heads()
    head = HeadRef.stored(heads, NAME)
    head.check()
    head.check()
    assert heads.reads == ["record"]


def test_a_head_that_is_missing_is_asked_for_again():
    heads = Heads(missing=True)
    head = HeadRef.stored(heads, NAME)
    for _ in range(2):
        with pytest.raises(NotFoundError):
            head.check()
    assert heads.reads == ["record"] * 2
