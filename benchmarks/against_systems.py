"""The systems that `against.py` compares; it starts this module once for each run: SYSTEM MODEL N URL FOLDER THREADS.

Each scores s3://archive/run-N/ on a server without authentication, and leaves Parquet files with the columns `key` and
`score` in FOLDER/scores.
"""

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dpiqa.models.base import Scorer
from dpiqa.models.loading import load_scorer

BUCKET, BATCH, KEY = "archive", 16, "benchmark"


def load(model: str, threads: int) -> Scorer:
    """Load the model, which all systems share."""
    return load_scorer(model, device="cpu", threads=threads or None)


def decode(data: bytes, width: int, height: int) -> np.ndarray:
    """Bytes -> (height, width, 3) uint8, with the resampling that the model was trained with."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def run_plain(model: str, n: int, url: str, folder: Path, threads: int) -> None:
    """List, then load, resize and score one object after the other."""
    import boto3  # noqa: PLC0415 - each system imports what it needs
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    s3 = boto3.client("s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=KEY, region_name="us-east-1")
    scorer = load(model, threads)
    size = scorer.card.preprocessing
    keys: list[str] = []
    scores: list[float] = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"run-{n}/"):
        for entry in page["Contents"]:
            data = s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            keys.append(entry["Key"])
            scores.append(float(scorer.score(decode(data, size.width, size.height)[None])[0]))
    (folder / "scores").mkdir()
    parquet.write_table(pa.table({"key": keys, "score": scores}), folder / "scores" / "scores.parquet")


def run_ray(model: str, n: int, url: str, folder: Path, threads: int) -> None:
    """Ray Data, as its guide to batch inference on images writes it."""
    import ray  # noqa: PLC0415
    from pyarrow.fs import S3FileSystem  # noqa: PLC0415

    class Student:
        """The model in an actor."""

        def __init__(self) -> None:
            self.scorer = load(model, threads)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"key": batch["path"], "score": self.scorer.score(np.stack(batch["pixels"]))}

    ray.init(include_dashboard=False, logging_level="ERROR")
    files = S3FileSystem(endpoint_override=url, access_key=KEY, secret_key=KEY, region="us-east-1")
    size = load(model, 1).card.preprocessing
    width, height = size.width, size.height

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        return {"path": row["path"], "pixels": decode(row["bytes"], width, height)}

    (
        ray.data.read_binary_files(f"{BUCKET}/run-{n}/", filesystem=files, include_paths=True)
        .map(prepare)
        .map_batches(Student, batch_size=BATCH, compute=ray.data.ActorPoolStrategy(size=1))
        .write_parquet(str(folder / "scores"))
    )
    ray.shutdown()


def run_daft(model: str, n: int, url: str, folder: Path, threads: int) -> None:
    """Daft with its native runner, as its guide to images writes it."""
    import daft  # noqa: PLC0415
    from daft import DataType, Series, col  # noqa: PLC0415
    from daft.io import IOConfig, S3Config  # noqa: PLC0415

    s3 = IOConfig(s3=S3Config(endpoint_url=url, key_id=KEY, access_key=KEY, region_name="us-east-1", use_ssl=False))
    size = load(model, 1).card.preprocessing

    @daft.cls
    class Student:
        """The model, loaded once."""

        def __init__(self) -> None:
            self.scorer = load(model, threads)

        @daft.method.batch(return_dtype=DataType.float64(), batch_size=BATCH)  # type: ignore[untyped-decorator]
        def score(self, images: Series) -> Any:
            return self.scorer.score(np.stack(images.to_pylist()))

    student = Student()
    (
        daft.from_glob_path(f"s3://{BUCKET}/run-{n}/*.jpg", io_config=s3)
        .select(col("path").alias("key"))
        .with_column("data", col("key").download(io_config=s3))
        .with_column("image", col("data").decode_image(mode="RGB").resize(size.width, size.height))
        .select(col("key"), student.score(col("image")).alias("score"))
        .write_parquet(str(folder / "scores"))
    )


def run_dpiqa(model: str, n: int, url: str, folder: Path, threads: int) -> None:
    """Score by a real worker process, with its defaults."""
    from sqlalchemy import text  # noqa: PLC0415

    from dpiqa.doorbell import Queue, load_doorbell  # noqa: PLC0415
    from dpiqa.local.commands import worker_command  # noqa: PLC0415
    from dpiqa.local.postgres import Postgres  # noqa: PLC0415
    from dpiqa.local.valkey import Valkey  # noqa: PLC0415
    from dpiqa.profiles import Profile  # noqa: PLC0415
    from dpiqa.settings import load_settings  # noqa: PLC0415
    from dpiqa.storage import schema  # noqa: PLC0415
    from dpiqa.storage.engine import make_engine, transaction  # noqa: PLC0415
    from dpiqa.storage.jobs import create_job  # noqa: PLC0415
    from dpiqa.types import JobKind, JobState  # noqa: PLC0415

    postgres = Postgres(folder / "postgres", folder / "postgres.log")
    valkey = Valkey(folder / "valkey", folder / "valkey.log")
    folder.chmod(0o711)
    postgres.start()
    valkey.start()
    schema.upgrade(postgres.url())
    (folder / "benchmark.toml").write_text(f'name = "benchmark"\nversion = 1\nstudent = "{model}"\n')
    settings = load_settings(
        database_url=postgres.url(),
        broker_url=valkey.url,
        s3_endpoint_url=url,
        aws_access_key_id=KEY,
        aws_secret_access_key=KEY,
        profile="benchmark",
        profiles_dir=folder,
        threads=threads or None,
        device="cpu",
    )
    argv, environment = worker_command(settings, "student")
    worker = subprocess.Popen(argv, env=os.environ | environment)
    engine = make_engine(postgres.url(), pool_size=1)
    profile = Profile(name="benchmark", version=1, student=model)
    with transaction(engine) as c:
        job = create_job(c, kind=JobKind.PREFIX, bucket=BUCKET, prefix=f"run-{n}/", profile=profile, queue=Queue.BULK)
    load_doorbell(settings).expand(str(job.id))
    state = text("SELECT state FROM jobs WHERE id = :job")
    while True:
        with engine.connect() as c:
            if c.execute(state, {"job": job.id}).scalar_one() == JobState.COMPLETE:
                break
        time.sleep(0.5)
    (folder / "scores").mkdir()
    export = ["scores", "--job", str(job.id), "--output", str(folder / "scores" / "scores.parquet")]
    subprocess.run([sys.executable, "-m", "dpiqa.cli", *export], env=os.environ | environment, check=True)
    worker.terminate()
    worker.wait(60)
    engine.dispose()
    valkey.stop()
    postgres.stop()


def main() -> None:
    """Be one system."""
    system, model, n, url, folder, threads = sys.argv[1:]
    systems = {"plain": run_plain, "ray": run_ray, "daft": run_daft, "dpiqa": run_dpiqa}
    systems[system](model, int(n), url, Path(folder), int(threads))


if __name__ == "__main__":
    main()
