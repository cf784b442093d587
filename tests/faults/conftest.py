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
def make_story(request, tmp_path, database_url, broker_url, s3, sqs_queue, scores, record_property):
    """Give a function that makes the test's `Story`; its arguments are settings."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {seed}: FAULTS_SEED={seed} repeats it")  # noqa: T201 - shown with a failure
    stories, started = [], time.monotonic()

    def make(*, oracle_url=database_url, **settings):
        urls = [settings.pop(name, url) for name, url in (("database_url", database_url), ("broker_url", broker_url))]
        stories.append(Story(tmp_path, *urls, s3, seed=seed, scores=scores, oracle_url=oracle_url, **settings))
        return stories[-1]

    yield make
    values = [str(value) for name, value in request.node.callspec.params.items() if name != "repeat"] if LONG else []
    name = " ".join([request.node.originalname.removeprefix("test_").replace("_", " "), *values])
    record_property("fault", name)
    record_property("seed", seed)
    record_property("seconds", time.monotonic() - started)
    for story in stories:
        record_property("images", len(story.keys))
        record_property("pause", story.longest_pause)
        story.kill()


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
        system.kill()


@pytest.fixture
def s3_proxy(s3_server, make_proxy):
    """Give a switch in front of S3: its `url`, `down()`, `hold()`."""
    return make_proxy(s3_server.port)


def pytest_terminal_summary(terminalreporter):
    if not LONG:
        return
    figures_of, failed = defaultdict(dict), set()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                figures_of[report.nodeid] |= dict(report.user_properties)
                failed |= {report.nodeid} if report.failed else set()
    runs = defaultdict(list)
    for test, figures in figures_of.items():
        if "fault" in figures:
            runs[figures["fault"]].append((test in failed, figures))
    terminalreporter.section("faults")
    line = "{:76.76} {:>4} {:>6} {:>6}  {:22} {:>13}  {}".format
    terminalreporter.line(line("fault", "runs", "failed", "images", "seconds (range)", "longest pause", "seeds"))
    for name, results in runs.items():
        seconds = [figures["seconds"] for _, figures in results]
        span = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        pause = f"{max(figures.get('pause', 0) for _, figures in results):.1f} s"
        images = sum(figures.get("images", 0) for _, figures in results)
        seeds = " ".join(str(figures["seed"]) for _, figures in results)
        n_failed = sum(is_failed for is_failed, _ in results)
        terminalreporter.line(line(name, len(results), n_failed, images, span, pause, seeds))
