"""Checkpoints: whole or absent, damaged ones passed over."""

import pytest
import torch

from headlift.errors import CorruptWeightsError, MissingWeightsError, NotFoundError
from headlift_trainer.checkpoints import Checkpoints, Snapshot, checkpoint_name, read_snapshot, write_snapshot
from headlift_trainer.stores import FolderStore


def snapshot(value: float = 1.0) -> Snapshot:
    tensors = {"a": torch.full((2, 3), value), "count": torch.tensor(3), "half": torch.ones(4, dtype=torch.bfloat16)}
    return Snapshot(tensors, {"step": 3, "figures": {"psnr": 0.1}})


def test_a_snapshot_comes_back_as_it_was(tmp_path):
    write_snapshot(tmp_path / "x.safetensors", snapshot())
    back = read_snapshot(tmp_path / "x.safetensors")
    assert back.facts == snapshot().facts
    assert all(torch.equal(value, back.tensors[name]) for name, value in snapshot().tensors.items())


def test_tensors_that_share_memory_are_kept_apart(tmp_path):
    base = torch.arange(6.0)
    write_snapshot(tmp_path / "x.safetensors", Snapshot({"a": base, "b": base[1:4], "c": base.view(2, 3).T}, {}))
    back = read_snapshot(tmp_path / "x.safetensors").tensors
    assert torch.equal(back["b"], base[1:4])
    assert torch.equal(back["c"], base.view(2, 3).T)


@pytest.mark.parametrize("place", [0.5, 0.999])
def test_a_flipped_bit_or_a_missing_end_is_noticed(tmp_path, place):
    path = tmp_path / "x.safetensors"
    write_snapshot(path, snapshot())
    whole = bytearray(path.read_bytes())
    for damaged in (whole[: int(len(whole) * place)], _flipped(whole)):
        path.write_bytes(damaged)
        with pytest.raises(CorruptWeightsError):
            read_snapshot(path)
    with pytest.raises(MissingWeightsError):
        read_snapshot(tmp_path / "none.safetensors")


def _flipped(data: bytearray) -> bytearray:
    changed = bytearray(data)
    changed[-3] ^= 1
    return changed


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    checkpoints = Checkpoints(FolderStore(tmp_path), keep=3)
    assert checkpoints.newest() is None
    for step in (5, 10, 15):
        checkpoints.save(snapshot(step), step, {})
    (tmp_path / checkpoint_name(15)).write_bytes(b"half a file")
    found = checkpoints.newest()
    assert found is not None
    assert found[0] == 10
    assert float(found[1].tensors["a"][0, 0]) == 10


@pytest.mark.parametrize(("best", "wanted"), [("psnr", 10), ("-psnr", 20)])
def test_the_best_stays_whichever_way_is_better(tmp_path, best, wanted):
    checkpoints = Checkpoints(FolderStore(tmp_path), keep=1, best=best)
    for step, psnr in ((5, 21.0), (10, 25.0), (15, 23.0), (20, 20.0), (25, 22.0)):
        checkpoints.save(snapshot(), step, {"psnr": psnr})
    assert checkpoints.best_step() == wanted
    assert checkpoints.steps() == [wanted, 25]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    store = FolderStore(tmp_path)
    store.put("a", lambda path: path.write_text("old") and None)

    def fail(path):
        path.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        store.put("a", fail)
    with store.opened("a") as path:
        assert path.read_text() == "old"
    assert store.names() == ["a"]
    store.delete("a")
    with pytest.raises(NotFoundError), store.opened("a"):
        pass
