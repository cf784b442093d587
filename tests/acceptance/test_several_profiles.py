"""One job under two profiles, with real workers that are killed; then jobs whose scores are known."""

import re
import socket
from urllib.request import urlopen

from support.photos import png

from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.profiles import Profile, load_profile
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import create_job
from dpiqa.types import JobKind, JobState

N = 60
BRIGHT = Profile(name="bright", version=1, student="brightness")


def submit(system, *profiles):
    with transaction(system.engine) as c:
        job = create_job(
            c, kind=JobKind.PREFIX, bucket=system.bucket.name, prefix="", profile=profiles, queue=Queue.BULK
        )
    load_doorbell(system.settings).expand(str(job.id))
    return job


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def steps(port):
    """Numbers of objects that a worker has fetched and of images that it has decoded, by its metrics."""
    text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    counts = dict(re.findall(r'dpiqa_stage_seconds_count\{step="(\w+)"\} (\d+)', text))
    return int(counts.get("fetch", 0)), int(counts.get("decode", 0))


def test_two_models_read_an_object_once_and_a_killed_worker_doubles_nothing(system, s3):
    for number in range(N):
        s3.put(f"{number:03}.png", png(number / N))
    port = free_port()
    system.worker("student", DPIQA_METRICS_PORT=str(port))
    job = submit(system, BRIGHT, load_profile("tiny"))
    system.wait(lambda: system.report(job).job.state is JobState.COMPLETE, "complete job")
    assert steps(port) == (N, 2 * N)  # two preprocessings
    assert system.report(job).by_profile == {"bright@1": {"scored": N}, "tiny@1": {"scored": N}}

    for number in range(N):
        s3.put(f"{number:03}.png", png((number + 0.5) / N))  # other bytes: all is to be done again
    again = submit(system, BRIGHT, load_profile("tiny"))
    system.wait(lambda: system.report(again).done > N / 2, "half of the images")
    system.processes[-1].kill()
    port = free_port()
    system.worker("student", "student2", DPIQA_METRICS_PORT=str(port))
    system.wait(lambda: system.report(again).job.state is JobState.COMPLETE, "complete job")
    assert system.report(again).by_state == {"scored": 2 * N}
    assert system.value("SELECT count(*) FROM results WHERE current") == 2 * N
    assert system.value("SELECT count(*) FROM scores s JOIN images m ON m.id = s.image_id WHERE m.current") == 2 * N

    before = steps(port)
    known = submit(system, Profile(name="also-bright", version=1, student="brightness"))
    system.wait(lambda: system.report(known).job.state is JobState.COMPLETE, "complete job")
    assert (system.report(known).by_state, system.report(known).reused) == ({"scored": N}, N)
    assert steps(port) == before
