import json

import pytest
import torch

from headlift import formats
from headlift.errors import CorruptBlobError, NotFoundError, StoreFullError
from headlift.model.types import Gaussians
from headlift.store.files import FileStore
from headlift.store.heads import HeadName, HeadStore
from headlift.store.recent_heads import RecentHeads, memory_bytes
from headlift.store.requests import RequestLog
from headlift.store.sealed import SealedStore
from headlift.store.stages import StageCache, StageKey, derived_prefix
from headlift.v1 import head_pb2


def cloud(seed=0, n=64):
    g = torch.Generator().manual_seed(seed)
    quats = torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=-1)
    means, scales = torch.rand(n, 3, generator=g) * 0.1, torch.rand(n, 3, generator=g) * 0.01 + 1e-3
    return Gaussians(means, quats, scales, torch.rand(n, generator=g), torch.rand(n, 3, generator=g))


@pytest.fixture
def sealed(tmp_path):
    return SealedStore(FileStore(tmp_path))


@pytest.fixture
def heads(sealed):
    return HeadStore(sealed, unpack=lambda b: formats.read(b, "wire"), memory_bytes=1 << 20)


def make(heads, tenant="a", sha="ab" * 32, **options):
    return heads.create(tenant, head_pb2.Head(input_sha256=sha), formats.write(cloud(), "wire"), **options)


def name_of(head):
    _, tenant, _, ident = head.name.split("/")
    return HeadName(tenant, ident)


def flip(sealed, key):
    blob = bytearray(sealed.blobs.get(key))
    blob[len(blob) // 2] ^= 1
    sealed.blobs.put(key, bytes(blob))


def test_an_answer_does_not_depend_on_memory(heads, sealed):
    name = name_of(make(heads))
    cold = HeadStore(sealed, unpack=lambda b: formats.read(b, "wire"), memory_bytes=0)
    for field in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(heads.gaussians(name), field), getattr(cold.gaussians(name), field))


def test_heads_are_listed_in_order_of_creation_and_per_tenant(sealed):
    seconds = iter(range(1_000_000, 2_000_000, 70_000))
    heads = HeadStore(
        sealed, unpack=lambda b: formats.read(b, "wire"), memory_bytes=0, clock=lambda: float(next(seconds))
    )
    made = [make(heads).name for _ in range(5)]
    make(heads, tenant="b")
    assert [h.name for h in heads.list("a", limit=10)] == made
    assert [h.name for h in heads.list("a", after=made[1].split("/")[-1], limit=2)] == made[2:4]
    assert heads.list("nobody", limit=10) == []


def test_deleting_a_head_leaves_no_blob_of_it(heads, sealed, tmp_path):
    sha = "cd" * 32
    cache, log = StageCache(sealed), RequestLog(sealed, keep_s=60)
    key = StageKey("a", sha, "gaussians", {"refine_steps": 3}, "w")
    cache.put(key, b"derived", "wire")
    request_id = "1b4e28ba-2fa1-4d2b-883f-0016d3cca427"
    head = make(heads, sha=sha, copy=key, request_id=request_id)
    log.put("a", request_id, "body", head.name)
    assert len(list(sealed.list("tenants/a"))) == 5
    heads.delete(name_of(head))
    assert list(sealed.list("tenants/a")) == []
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    for ask in (heads.get, heads.gaussians, heads.packed, heads.delete):
        with pytest.raises(NotFoundError):
            ask(name_of(head))


def test_damaged_gaussians_are_counted_and_mended_from_the_stage_cache(heads, sealed):
    packed = formats.write(cloud(), "wire")
    key = StageKey("a", "ab" * 32, "gaussians", {}, "w")
    StageCache(sealed).put(key, packed, "wire")
    head = make(heads, copy=key)
    flip(sealed, f"{head.name}/gaussians")
    assert heads.packed(name_of(head)) == packed
    assert sealed.corrupt_count == 1
    assert heads.packed(name_of(head)) == packed
    assert sealed.corrupt_count == 1


def test_damage_that_cannot_be_mended_is_told_and_the_head_can_be_deleted(heads, sealed):
    head = make(heads)
    flip(sealed, f"{head.name}/gaussians")
    with pytest.raises(CorruptBlobError):
        heads.packed(name_of(head))
    flip(sealed, f"{head.name}/record")
    flip(sealed, f"{head.name}/links")
    with pytest.raises(CorruptBlobError):
        heads.get(name_of(head))
    assert heads.list("a", limit=10) == []
    heads.delete(name_of(head))
    assert list(sealed.list("tenants/a")) == []


def test_a_sweep_removes_only_old_heads_that_never_came_to_be(sealed):
    now = 2_000_000.0
    heads = HeadStore(sealed, unpack=lambda b: formats.read(b, "wire"), memory_bytes=0, clock=lambda: now)
    lost, whole = make(heads), make(heads)
    now += 7200
    young = make(heads)
    for head in (lost, young):
        sealed.delete(f"{head.name}/record")
    assert heads.sweep() == 1
    assert {k.rpartition("/")[0] for k in sealed.list("tenants")} == {whole.name, young.name}


def test_a_damaged_stage_blob_is_a_miss_and_is_removed(sealed):
    cache, key = StageCache(sealed), StageKey("a", "ab" * 32, "quality", {}, "")
    cache.put(key, b"data", "quality")
    flip(sealed, key.path())
    assert cache.get(key, "quality") is None
    assert not sealed.exists(key.path())
    assert sealed.corrupt_count == 1


@pytest.mark.parametrize(
    "change",
    [{"tenant": "b"}, {"input_sha256": "cd" * 32}, {"stage": "head"}, {"options": {"x": 2}}, {"weights_hash": "v"}],
)
def test_a_stage_key_depends_on_all_its_parts(change):
    base = {"tenant": "a", "input_sha256": "ab" * 32, "stage": "quality", "options": {"x": 1}, "weights_hash": "w"}
    assert StageKey(**base).path() != StageKey(**(base | change)).path()
    assert StageKey(**base).path().startswith(derived_prefix("a", "ab" * 32) + "/")


class FullAfter:
    """A real file store that has no space left after some writes."""

    def __init__(self, inner, writes):
        self.inner, self.left = inner, writes

    def put(self, key, blob, **options):
        self.left -= 1
        if self.left < 0:
            raise StoreFullError("full")
        self.inner.put(key, blob, **options)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_head_that_does_not_fit_leaves_nothing(tmp_path, writes):
    sealed = SealedStore(FullAfter(FileStore(tmp_path), writes))
    heads = HeadStore(sealed, unpack=lambda b: formats.read(b, "wire"), memory_bytes=1 << 20)
    with pytest.raises(StoreFullError):
        make(heads)
    assert list(sealed.list("tenants")) == []


def test_a_full_store_does_not_fail_the_stage_cache(tmp_path):
    cache = StageCache(SealedStore(FullAfter(FileStore(tmp_path), 0)))
    cache.put(StageKey("a", "ab" * 32, "quality", {}, ""), b"", "quality")


def test_requests_are_forgotten_in_time(sealed):
    now = 1000.0
    log = RequestLog(sealed, keep_s=60, clock=lambda: now)
    log.put("a", "id", "body", "name")
    assert log.get("a", "id").head_name == "name"
    assert log.get("b", "id") is None
    now = 1061.0
    assert log.get("a", "id") is None
    assert json.dumps(log.get("a", "other")) == "null"


def test_recent_heads_stay_within_their_bound_and_keep_the_latest():
    size = memory_bytes(cloud())
    recent = RecentHeads(3 * size)
    for i in range(10):
        recent.put(str(i), cloud(i))
        assert recent.size_bytes <= 3 * size
    assert [i for i in range(10) if recent.get(str(i)) is not None] == [7, 8, 9]
    recent.get("7")
    recent.put("10", cloud())
    assert recent.get("7") is not None
    assert recent.get("8") is None
    recent.put("big", cloud(n=64 * 4))
    assert recent.get("big") is None
    for i in range(11):
        recent.drop(str(i))
    assert recent.size_bytes == 0
