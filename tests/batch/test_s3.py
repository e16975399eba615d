"""A batch from one S3 prefix to another."""

import io
from dataclasses import replace

import pyarrow.parquet

from headlift.batch.manifest import read_manifest
from headlift.batch.places import open_place
from headlift.batch.run import run, run_local


def test_a_batch_from_s3_to_s3_goes_on_like_any_other(job, folder, s3_bucket):
    keys = {"s3_access_key": s3_bucket.access_key, "s3_secret_key": s3_bucket.secret_key}
    settings = replace(job.settings, s3_endpoint=s3_bucket.server.endpoint, **keys)
    place = open_place(f"s3://{s3_bucket.name}/shoot", settings, make=True)
    for path in folder.rglob("*.*"):
        if path.is_file():
            place.write(path.relative_to(folder).as_posix(), path.read_bytes())
    source, out = f"s3://{s3_bucket.name}/shoot/", f"s3://{s3_bucket.name}/made"
    assert len(read_manifest(source, settings)) == 6
    remote = replace(job, manifest=source, out=out, settings=settings)
    outcome = run(remote, run_local, workers=1)
    assert sorted(row.reason for row in outcome.rows) == ["NO_FACE", *["OK"] * 4, "UNREADABLE_PICTURE"]
    there = s3_bucket.objects()
    table = pyarrow.parquet.read_table(io.BytesIO(there["made/results.parquet"]))
    assert table["id"].to_pylist() == [row.id for row in outcome.rows]
    assert {f"made/{o.name}" for row in outcome.rows for o in row.outputs} <= there.keys()
    assert not [name for name in there if name.startswith(("made/work/", "made/results/"))]
    assert run(remote, run_local, workers=1).done_now == 0
