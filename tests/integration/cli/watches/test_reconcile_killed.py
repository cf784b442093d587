"""A reconciliation in a process that is killed, and two of them at once."""

import json
import os
import signal
import subprocess
import sys

import pytest
from support.photos import png
from support.processes import wait_for

from dpiqa.doorbell import load_doorbell
from dpiqa.events import Parsed
from dpiqa.objects.s3 import S3Store
from dpiqa.pipeline.ingest import ingest
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings

#: The command line on pages of three objects, each of which takes a while.
SLOW = """
import sys, time
from dpiqa.objects import s3
s3._PAGE = 3
page = s3.S3Store._page
def slow(*args):
    time.sleep(0.2)
    return page(*args)
s3.S3Store._page = slow
from dpiqa.cli.__main__ import main
sys.argv = ["dpiqa", *sys.argv[1:]]
main()
"""


@pytest.fixture
def bucket(system, ledger, monkeypatch):
    """Sixty objects, of which the ledger knows half; two that it knows are gone, one was overwritten."""
    monkeypatch.setenv("DPIQA_LEASE_SECONDS", "2")
    for number in range(30):
        system.put(f"{2 * number:02}.png", png(0.2))
    settings = load_settings()
    refs = [ref for page in S3Store.from_settings(settings).list(system.name, "") for ref in page]
    ingest(ledger.engine, load_doorbell(settings), [Parsed(refs)], settings, load_profile("smoke"))
    for number in range(30):
        system.put(f"{2 * number + 1:02}.png", png(0.2))
    system.put("40.png", png(0.9))
    system.delete("02.png")
    system.delete("58.png")
    return system


@pytest.fixture
def start(bucket):
    """Give a function that starts the slow command line; what runs at the end is killed."""
    started = []

    def start(*words):
        argv = [sys.executable, "-c", SLOW, *words]
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def marked(ledger):
    return [row.key for row in ledger.sql("SELECT key FROM images WHERE deleted_at IS NOT NULL ORDER BY key")]


def check(report, ledger):
    counts = report["counts"]
    found = [counts[name] for name in ("listed", "ledger", "missing", "changed", "deleted", "marked")]
    assert (report["state"], found) == ("complete", [58, 30, 30, 1, 2, 2])
    assert marked(ledger) == ["02.png", "58.png"]
    assert ledger.sql("SELECT count(*) FROM jobs WHERE kind = 'prefix'") == [(1,)]
    job = report["job_id"]
    assert ledger.sql("SELECT count(*), count(DISTINCT image_id) FROM items WHERE job_id = :job", job=job) == [(31, 31)]
    assert ledger.one("SELECT state FROM jobs WHERE id = :job", job=job) == "running"


def test_a_killed_run_is_resumed_and_adds_nothing_twice(bucket, ledger, run, start):
    address = f"s3://{bucket.name}/"
    process = start("reconcile", address)
    wait_for(lambda: ledger.sql("SELECT FROM reconciliations WHERE cursor > '20'"), 60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert marked(ledger) == []
    ((state, counts),) = ledger.sql("SELECT state, counts FROM reconciliations")
    assert (state, counts["listed"] < 58) == ("comparing", True)
    wait_for(lambda: ledger.one("SELECT lease_until < clock_timestamp() FROM reconciliations"), 10)
    result = run("reconcile", address, "--json")
    assert "resuming" in result.stderr
    report = json.loads(result.stdout)
    assert ledger.one("SELECT attempt FROM reconciliations") == 2
    check(report, ledger)


def test_two_at_once_are_one(bucket, ledger, start):
    address = f"s3://{bucket.name}/"
    first, second = start("reconcile", address, "--json"), start("reconcile", address, "--json")
    outputs = [process.communicate(timeout=100) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    reports = [json.loads(stdout) for stdout, _ in outputs]
    assert sum("another process works on" in stderr for _, stderr in outputs) == 1
    assert reports[0]["id"] == reports[1]["id"]
    check(reports[0], ledger)
