import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.images import encoded, photograph

from dpiqa.errors import DecoderKilled, DpiqaError, ImageRejected, Unavailable
from dpiqa.imaging import frames
from dpiqa.imaging.decode import Limits, decode, decode_and_prepare
from dpiqa.imaging.measured import MEASURE_NAMES
from dpiqa.imaging.measures import measure
from dpiqa.imaging.pool import DecodePool, child_environment
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.pipeline.outcomes import outcome_of_error
from dpiqa.storage.items import Claim, Failed, Postponed
from dpiqa.types import ImageRef, Reason, Stage

HERE = Path(__file__).parent
EVIL = (sys.executable, "-P", str(HERE / "evil_child.py"))
CLAIM = Claim(
    item_id=1,
    job_id=uuid.uuid4(),
    image_id=2,
    stage=Stage.STUDENT,
    ref=ImageRef(bucket="b", key="k", etag="e"),
    fence=1,
    profile_id="p@1",
    crashes=0,
    known_score=None,
    student_score=None,
)
SIZE = Preprocessing(width=32, height=24)
GOOD = encoded(photograph(), "JPEG")


@pytest.fixture
def pool():
    with DecodePool(2, Limits(seconds=2, memory_bytes=1 << 30), command=EVIL) as pool:
        yield pool


def reason(future):
    with pytest.raises(ImageRejected) as caught:
        future.result(timeout=60)
    return caught.value.reason


def test_gives_the_pixels_that_decoding_here_gives():
    with DecodePool(1, Limits()) as pool:
        pixels = pool.submit(GOOD, SIZE).result(timeout=60)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (24, 32, 3)
    np.testing.assert_array_equal(pixels, decode_and_prepare(GOOD, SIZE, Limits()))


def test_measures_the_picture_before_it_is_resized_in_the_same_request():
    expected = measure(decode(GOOD, Limits())).as_row()
    with DecodePool(1, Limits()) as pool:
        pixels, measures = pool.submit_measured(GOOD, SIZE).result(timeout=60)
        tiny = pool.submit_measured(encoded(photograph().crop((0, 0, 5, 5)), "PNG"), SIZE).result(timeout=60)[1]
        assert reason(pool.submit_measured(b"no image", SIZE)) is Reason.NOT_AN_IMAGE
    np.testing.assert_array_equal(pixels, decode_and_prepare(GOOD, SIZE, Limits()))
    assert measures.as_row() == pytest.approx(expected, abs=0.0001)
    assert (measures.width, measures.height) == photograph().size
    assert tiny.as_row()["sharpness"] is None


@pytest.mark.parametrize("wrong", [{"width": 0}, {"height": 1 << 31}, {"noise": float("inf")}])
def test_measures_that_cannot_be_stored_are_an_invalid_reply(wrong):
    values = dict(zip(MEASURE_NAMES, (32, 24, *[0.5] * 7), strict=True)) | wrong
    ours, theirs = socket.socketpair()
    with ours, theirs, frames.map_memory(frames.share_memory()) as shared:
        theirs.sendall(b"P" + (24).to_bytes(4) + (32).to_bytes(4) + struct.pack("!II7f", *values.values()))
        with pytest.raises(frames.InvalidReplyError):
            frames.receive_reply(ours, shared, SIZE, frames.Patience(5), is_measured=True)


def test_rejections_keep_their_reason_and_detail():
    with DecodePool(1, Limits(max_bytes=10_000_000)) as pool:
        assert reason(pool.submit(b"", SIZE)) is Reason.EMPTY
        assert reason(pool.submit(b"%PDF-1.7", SIZE)) is Reason.NOT_AN_IMAGE
        assert reason(pool.submit(bytes(10_000_001), SIZE)) is Reason.TOO_MANY_BYTES
        with pytest.raises(ImageRejected, match="PSD is not decoded"):
            pool.submit(b"8BPS", SIZE).result(timeout=60)


def test_a_bad_image_harms_only_itself(pool):
    deeds = [b"hang", b"crash", b"memory", b"protocol"]
    futures = {data: pool.submit(data, SIZE) for data in deeds}
    good = [pool.submit(GOOD, SIZE) for _ in range(20)]
    assert all(future.result(timeout=60).shape == (24, 32, 3) for future in good)
    assert reason(futures[b"hang"]) is Reason.DECODE_TIMEOUT
    assert {reason(futures[data]) for data in deeds[1:]} == {Reason.DECODE_CRASH}


@pytest.mark.parametrize("deed", [b"once crash", b"once die"])
def test_a_process_that_died_once_costs_no_image(tmp_path, monkeypatch, deed):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with DecodePool(1, Limits(sandbox="off"), command=EVIL) as pool:  # the decoder notes in a file that it died
        assert reason(pool.submit(deed, SIZE)) is Reason.NOT_AN_IMAGE  # decoded at the second try
        assert (tmp_path / "done").exists()


def test_what_the_image_caused_rejects_it_and_what_the_machine_did_does_not(pool):
    assert reason(pool.submit(b"crash", SIZE)) is Reason.DECODE_CRASH
    assert reason(pool.submit(b"abort", SIZE)) is Reason.DECODE_CRASH
    with pytest.raises(DecoderKilled, match=r"ended from outside twice \(SIGKILL\)"):
        pool.submit(b"die", SIZE).result(timeout=60)


def test_a_process_that_the_kernel_ends_for_lack_of_memory_is_a_counted_error(pool, monkeypatch):
    """Such an image ends after `max_errors` tries; the error is the reason that its item then has."""
    kills = iter(range(100))
    monkeypatch.setattr("dpiqa.imaging.pool.count_oom_kills", lambda: (next(kills),))
    with pytest.raises(DpiqaError, match="because memory ran out") as caught:
        pool.submit(b"die", SIZE).result(timeout=60)
    assert isinstance(outcome_of_error(CLAIM, caught.value), Failed)
    assert isinstance(outcome_of_error(CLAIM, DecoderKilled("SIGKILL")), Postponed)


def test_processor_time_is_limited_and_time_on_the_clock_by_far_less():
    with (
        DecodePool(1, Limits(seconds=1), command=EVIL) as pool,
        pytest.raises(ImageRejected, match="more than 1 s of processor time"),
    ):
        pool.submit(b"hang", SIZE).result(timeout=110)
    with DecodePool(2, Limits(wall_seconds=3), command=EVIL) as pool:
        sleeping, stopped = pool.submit(b"sleep", SIZE), pool.submit(b"stop", SIZE)
        assert reason(sleeping) is Reason.DECODE_TIMEOUT
        with pytest.raises(DecoderKilled, match="too busy"):
            stopped.result(timeout=60)


def test_an_owner_that_was_stopped_takes_no_image_for_slow():
    """A stop lasts longer than the limit; the reply is there when the owner goes on."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        patience = frames.Patience(2.0)
        patience.seconds -= 0  # as long as nothing is waited for, nothing is used up
        clock = iter([0.0, 3600.0, 3600.0, 3600.1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frames.time, "monotonic", lambda: next(clock))
            theirs.send(b"x")
            assert patience.during(ours, ours.recv_into, memoryview(bytearray(1))) == 1
        assert patience.seconds == 1.0


def decoders():
    """Decode processes of this one that are alive."""
    mine = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "dpiqa.imaging.child" in " ".join(process.cmdline()):
                mine.append(process)
    return mine


def test_processes_killed_at_any_moment_never_stop_the_pool():
    """An image waits for another try only when both of its tries were killed; none is rejected."""
    kills = 0
    with DecodePool(2, Limits()) as pool:
        futures = []
        while kills < 8:
            futures += [pool.submit(GOOD, SIZE) for _ in range(40)]
            time.sleep(0.02 + 0.01 * kills)
            for process in decoders()[:1]:
                process.kill()
                kills += 1
        outcomes = [future.exception(timeout=120) for future in futures]
    assert all(error is None or isinstance(error, Unavailable) for error in outcomes)
    assert sum(error is not None for error in outcomes) <= kills // 2


def test_knows_no_secret_and_loads_nothing_it_does_not_need(pool, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("DPIQA_DATABASE_URL", "canary")
    with pytest.raises(ImageRejected) as caught:
        pool.submit(b"confess", SIZE).result(timeout=60)
    assert "PATH" in caught.value.message.split()
    assert not {"AWS_SECRET_ACCESS_KEY", "DPIQA_DATABASE_URL", "torch", "boto3", "celery"} & set(
        caught.value.message.split()
    )


def test_the_environment_is_an_allow_list():
    kept = child_environment({"PATH": "/bin", "PGPASSWORD": "x", "HF_TOKEN": "x", "PYTHONPATH": "/else"})
    ours = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    assert set(kept) == {"PATH", "PYTHONPATH", *ours}
    assert kept["PYTHONPATH"].endswith(os.pathsep + "/else")


def test_noise_never_reaches_stderr(pool, capfd):
    assert reason(pool.submit(b"noise", SIZE)) is Reason.NOT_AN_IMAGE
    assert capfd.readouterr().err == ""


def test_close_ends_running_and_waiting_work_at_once():
    pool = DecodePool(1, Limits(seconds=600), command=EVIL)
    assert reason(pool.submit(b"pid", SIZE)) is Reason.CORRUPT
    running, waiting = pool.submit(b"hang", SIZE), pool.submit(GOOD, SIZE)
    time.sleep(0.3)
    start = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - start < 2
    assert waiting.cancelled()
    with pytest.raises(Unavailable, match="closed"):
        running.result()
    with pytest.raises(RuntimeError):
        pool.submit(GOOD, SIZE)


def test_leaves_no_process_behind(pool):
    pids = set()
    for _ in range(8):
        with pytest.raises(ImageRejected) as caught:
            pool.submit(b"pid", SIZE).result(timeout=60)
        pids.add(int(caught.value.message))
    pool.close()
    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_decoder_that_cannot_start_is_not_the_images_fault():
    with (
        DecodePool(1, Limits(), command=(sys.executable, "-c", "raise SystemExit(3)")) as pool,
        pytest.raises(Unavailable, match="does not start, exit code 3"),
    ):
        pool.submit(GOOD, SIZE).result(timeout=60)
    with (
        DecodePool(1, Limits(), command=("/no/such/program",)) as pool,
        pytest.raises(Unavailable, match="cannot start"),
    ):
        pool.submit(GOOD, SIZE).result(timeout=60)


def test_survives_the_thread_that_first_used_it(pool):
    first = []
    starter = threading.Thread(target=lambda: first.append(pool.submit(GOOD, SIZE)))
    starter.start()
    starter.join()
    assert first[0].result(timeout=60).shape == (24, 32, 3)
    time.sleep(0.2)
    assert pool.submit(GOOD, SIZE).result(timeout=60).shape == (24, 32, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a busy process ends by its alarm, after seconds")
def test_processes_die_with_an_owner_that_is_killed():
    owner = subprocess.Popen([sys.executable, str(HERE / "owner.py"), EVIL[-1]], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2
    assert all(psutil.pid_exists(pid) for pid in pids)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 2
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid):
    """Orphans in a container may stay as zombies until its init reaps them."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
