"""Downloads from a server that stalls, cuts, forgets and lies."""

import random
import shutil

import pytest
from support.scripted_server import Script, serving

from dpiqa.downloads import Timeouts, fetch
from dpiqa.downloads.fetch import RateLimit
from dpiqa.downloads.partial_file import OVERLAP
from dpiqa.downloads.responses import Interrupted
from dpiqa.errors import ConfigurationError, NotFound, SourceUnavailable

CONTENT = random.Random(0).randbytes(400_000)
QUICK = Timeouts(wait_seconds=0.001, max_wait_seconds=0.01, tries=3)
GONE = [(503, {}, b"")] * 3


@pytest.fixture
def server():
    with serving(Script(CONTENT)) as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "model.bin"


def get(server, target, timeouts=QUICK, **options):
    fetch(f"{server.url}/file?signature=hush", target, timeouts=timeouts, **options)


def left(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_comes_whole_and_alone(server, target):
    seen = []
    get(server, target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert left(target) == ["model.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(seen) == seen


@pytest.mark.parametrize("etag", ['"v1"', ""])
def test_a_broken_try_goes_on_where_it_stopped(server, target, etag):
    server.plan, server.etag = ["cut"] * 4, etag
    get(server, target)
    assert target.read_bytes() == CONTENT
    starts = [int(ranges.removeprefix("bytes=").removesuffix("-")) for ranges in server.ranges()[1:]]
    assert starts[0] == len(CONTENT) // 2 + 1 - OVERLAP
    assert sorted(starts) == starts
    conditions = {headers.get("If-Range") for _, headers in server.requests[1:]}
    assert conditions == {etag or None}


def test_a_server_that_falls_silent_is_asked_again(server, target):
    server.plan = ["stall", "silent"]
    get(server, target, Timeouts(stall_seconds=0.5, wait_seconds=0.001, max_wait_seconds=0.01, tries=30))
    assert target.read_bytes() == CONTENT
    assert len(server.requests) > 2


def test_a_server_that_stays_silent_is_given_up(server, target):
    server.plan = ["silent"] * 2
    with pytest.raises(SourceUnavailable, match="the server stopped responding; 0 bytes downloaded"):
        get(server, target, Timeouts(stall_seconds=0.2, wait_seconds=0.001, tries=2))


def test_another_call_goes_on_where_the_last_one_gave_up(server, target):
    server.plan = ["cut", *GONE]
    with pytest.raises(SourceUnavailable) as raised:
        get(server, target)
    assert "the server answers 503" in raised.value.message
    assert f"{len(CONTENT) // 2 + 1:,} bytes downloaded" in raised.value.message
    assert "hush" not in raised.value.message
    assert not target.exists()
    first_requests = len(server.requests)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.ranges()[first_requests] == f"bytes={len(CONTENT) // 2 + 1 - OVERLAP}-"


@pytest.mark.parametrize("etag", ['"v2"', ""])
def test_a_file_that_changed_meanwhile_is_never_mixed(server, target, etag):
    """With an ETag the server sends all of the new one; without, the bytes fetched again are others."""
    server.plan, server.etag = ["cut", *GONE], etag and '"v1"'
    with pytest.raises(SourceUnavailable):
        get(server, target)
    server.content, server.etag = CONTENT[::-1], etag
    get(server, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_file_that_became_shorter_is_fetched_again(server, target):
    server.plan, server.etag = ["cut", *GONE], ""
    with pytest.raises(SourceUnavailable):
        get(server, target)
    server.content = CONTENT[:1000]
    get(server, target)
    assert target.read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("trouble", ["ignore_range", "wrong_range"])
def test_a_server_that_does_not_know_ranges_starts_again(server, target, trouble):
    server.plan = ["cut", trouble]
    get(server, target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server, target):
    body = (200, {"Content-Length": str(len(CONTENT))}, CONTENT[:1000])
    server.plan = [(503, {}, b"")] * 2 + ["cut"] + [body] * 50
    with pytest.raises(SourceUnavailable, match=r"could not be downloaded: .*bytes downloaded"):
        get(server, target)
    assert len(server.requests) < 10


def test_a_part_without_its_state_is_not_trusted(server, target):
    target.parent.mkdir()
    target.with_name("model.bin.part").write_bytes(b"of who knows what")
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.ranges() == [None]


def test_a_length_may_be_unknown(server, target):
    server.plan = ["chunked"]
    totals = set()
    get(server, target, progress=lambda done, total: totals.add(total))
    assert target.read_bytes() == CONTENT
    assert totals == {None}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, target, status):
    server.plan = [(status, {"Retry-After": "3600", "Content-Type": "text/html"}, b"busy")] * 2
    get(server, target)
    assert target.read_bytes() == CONTENT


PAGES = [
    (200, "<title>Google Drive - Quota exceeded</title>", "downloaded too often"),
    (200, "<title>Google Drive - Virus scan warning</title> can't scan this file for viruses", "virus scan"),
    (200, "<html><title>Sign\n in</title>", "a web page instead of the file: Sign in"),
    (403, "<title>Quota exceeded</title>", "downloaded too often"),
]


@pytest.mark.parametrize(("status", "page", "complaint"), PAGES)
def test_a_page_is_not_taken_for_the_file(server, target, status, page, complaint):
    server.plan = [(status, {"Content-Type": "text/html; charset=utf-8"}, page.encode())]
    with pytest.raises(SourceUnavailable, match=complaint) as raised:
        get(server, target)
    assert "by hand" in raised.value.hint
    assert not target.exists()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(404, NotFound, "no file at"), (401, ConfigurationError, "HF_TOKEN"), (400, SourceUnavailable, "answers 400")],
)
def test_a_refusal_is_not_tried_again(server, target, status, error, words):
    server.plan = [(status, {}, b"")]
    with pytest.raises(error) as raised:
        get(server, target)
    assert words in str(raised.value)
    assert len(server.requests) == 1


def test_encoded_bytes_are_not_stored(server, target):
    server.plan = [(200, {"Content-Encoding": "gzip"}, b"squeezed")]
    with pytest.raises(SourceUnavailable, match="encoded"):
        get(server, target)


def test_redirects_are_followed_and_secrets_stay_with_the_first_host(server, target):
    with serving(Script(CONTENT)) as other:
        server.plan = [(302, {"Location": f"{other.url}/there"}, b"")]
        get(server, target, headers={"Authorization": "Bearer hush"})
        assert server.requests[0][1]["Authorization"] == "Bearer hush"
        assert "Authorization" not in other.requests[0][1]
    assert target.read_bytes() == CONTENT


def test_redirects_in_a_circle_end(server, target):
    server.plan = [(302, {"Location": "/file"}, b"")] * 100
    with pytest.raises(SourceUnavailable, match="redirects"):
        get(server, target)


def test_nobody_answers(target):
    with serving(Script()) as server:
        pass
    with pytest.raises(SourceUnavailable, match="could not be downloaded"):
        get(server, target)


def test_a_full_disk_is_told_before_the_download(server, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(ConfigurationError, match=r"needs 400,000 bytes more, and 1,000 are free"):
        get(server, target)


def test_a_disk_that_fills_up_meanwhile_is_told(server, target):
    target.parent.mkdir()
    target.with_name("model.bin.part").symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match="No space left on device") as raised:
        get(server, target)
    assert "free some space" in raised.value.hint


def test_a_folder_that_cannot_be_made_is_told(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        get(server, tmp_path / "file" / "model.bin")


def test_two_processes_do_not_write_one_file(server, target):
    def second(done, total):
        with pytest.raises(ConfigurationError, match="another process is downloading"):
            get(server, target)

    get(server, target, progress=second)
    assert target.read_bytes() == CONTENT


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_trickle_is_a_stall_and_a_download_has_an_end():
    clock = Clock()
    rate = RateLimit(Timeouts(stall_seconds=10, min_bytes_per_second=100, total_seconds=60), deadline=60, clock=clock)
    for clock.now in (4.0, 9.0, 11.0):
        rate.add(1000)
    clock.now = 22.0
    with pytest.raises(Interrupted, match="only 1 bytes came in 11 s"):
        rate.add(1)
    clock.now = 61.0
    with pytest.raises(Interrupted, match="longer than 60 s in all"):
        rate.add(10**6)
