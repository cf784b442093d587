"""The fault suite: `make test` runs its short form once, `make faults` the long form five times with a table.

Each test is one fault, or several, on real processes at random moments. The seed of a run is in its report;
`FAULTS_SEED` repeats it.
"""

import os
import random
import statistics
import time
from collections import defaultdict

import pytest
from support.proxy import Proxy
from support.story import Story, reference_scores
from support.system import System

REPEATS = int(os.environ.get("FAULTS_REPEATS", "0"))  #: 0: the short form
LONG = REPEATS > 0


def pytest_generate_tests(metafunc):
    if LONG and "make_story" in metafunc.fixturenames:
        metafunc.fixturenames.append("repeat")
        metafunc.parametrize("repeat", range(REPEATS))


def pytest_collection_modifyitems(items):
    reason = "part of the long form: `make faults`"
    for item in items:
        if item.get_closest_marker("long_form") and not LONG:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def n():
    """Number of objects of a story."""
    return 300 if LONG else 100


@pytest.fixture(scope="session")
def scores(tmp_path_factory):
    """Scores of the distinct images by `dpiqa score`, by level."""
    return reference_scores(tmp_path_factory.mktemp("reference"))


@pytest.fixture
def make_story(tmp_path, database_url, broker_url, s3, sqs_queue, scores, record_property):
    """Give a function that makes the test's `Story`; its arguments are settings."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {seed}: FAULTS_SEED={seed} repeats it")  # noqa: T201 - shown with a failure
    stories, started = [], time.monotonic()

    def make(*, oracle_url=database_url, **settings):
        urls = [settings.pop(name, url) for name, url in (("database_url", database_url), ("broker_url", broker_url))]
        stories.append(Story(tmp_path, *urls, s3, seed=seed, scores=scores, oracle_url=oracle_url, **settings))
        return stories[-1]

    yield make
    record_property("seed", seed)
    record_property("seconds", time.monotonic() - started)
    for story in stories:
        record_property("images", len(story.keys))
        record_property("pause", story.longest_pause)
        story.stop()


@pytest.fixture
def story(make_story):
    """Give a `Story` with quick settings and no process running."""
    return make_story()


@pytest.fixture
def make_proxy():
    """Give a function that makes a `Proxy` in front of a port."""
    proxies = []

    def make(port):
        proxies.append(Proxy(port))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def make_system(tmp_path, database_url, broker_url, s3, sqs_queue):
    """Give a function that makes a `System` without an oracle; its arguments are settings."""
    systems = []

    def make(**settings):
        systems.append(System(tmp_path, database_url, broker_url, s3, **settings))
        return systems[-1]

    yield make
    for system in systems:
        system.stop()


@pytest.fixture
def s3_proxy(s3_server, make_proxy):
    """Give a switch in front of S3: its `url`, `down()`, `hold()`."""
    return make_proxy(s3_server.port)


def pytest_terminal_summary(terminalreporter):
    if not LONG:
        return
    runs = defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "teardown" or (report.when == "call" and outcome == "failed"):
                runs[report.location[2].split("[")[0]].append((outcome, dict(report.user_properties)))
    terminalreporter.section("faults")
    terminalreporter.line(f"{'fault':64} runs failed images   seconds (range)   longest pause  seeds")
    for name, results in runs.items():
        figures = [figure for _, figure in results if "seconds" in figure]
        seconds = [figure["seconds"] for figure in figures] or [0]
        row = f"{name.removeprefix('test_').replace('_', ' '):64.64} {len(results):4}"
        row += f" {sum(outcome == 'failed' for outcome, _ in results):6} {sum(f['images'] for f in figures):6}"
        row += f" {statistics.median(seconds):6.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        row += f" {max((f['pause'] for f in figures), default=0):10.1f} s  "
        terminalreporter.line(row + " ".join(str(figure["seed"]) for figure in figures))
