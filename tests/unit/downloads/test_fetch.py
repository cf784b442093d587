"""Downloads from a server that stalls, cuts, forgets and lies."""

import random
import shutil

import pytest
from support.shelves import Shelf, serving

from dpiqa.downloads import Patience, fetch
from dpiqa.downloads.errors import Interrupted
from dpiqa.downloads.part import OVERLAP
from dpiqa.downloads.patience import Pace
from dpiqa.errors import ConfigurationError, NotFound, SourceUnavailable

CONTENT = random.Random(0).randbytes(400_000)
PATIENT = Patience(wait_seconds=0.001, longest_wait=0.01, tries=3)
GONE = [(503, {}, b"")] * 3


@pytest.fixture
def shelf():
    with serving(Shelf(CONTENT)) as shelf:
        yield shelf


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "model.bin"


def get(shelf, target, patience=PATIENT, **options):
    fetch(f"{shelf.url}/file?signature=hush", target, patience=patience, **options)


def left(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_comes_whole_and_alone(shelf, target):
    seen = []
    get(shelf, target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert left(target) == ["model.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(seen) == seen


@pytest.mark.parametrize("etag", ['"v1"', ""])
def test_a_broken_try_goes_on_where_it_stopped(shelf, target, etag):
    shelf.plan, shelf.etag = ["cut"] * 4, etag
    get(shelf, target)
    assert target.read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in shelf.ranges()[1:]]
    assert starts[0] == len(CONTENT) // 2 + 1 - OVERLAP
    assert sorted(starts) == starts
    conditions = {headers.get("If-Range") for _, headers in shelf.asked[1:]}
    assert conditions == {etag or None}


def test_a_server_that_falls_silent_is_asked_again(shelf, target):
    shelf.plan = ["stall", "silent"]
    get(shelf, target, Patience(stall_seconds=0.5, wait_seconds=0.001, longest_wait=0.01, tries=30))
    assert target.read_bytes() == CONTENT
    assert len(shelf.asked) > 2


def test_a_server_that_stays_silent_is_given_up(shelf, target):
    shelf.plan = ["silent"] * 2
    with pytest.raises(SourceUnavailable, match="the server fell silent; 0 bytes are here"):
        get(shelf, target, Patience(stall_seconds=0.2, wait_seconds=0.001, tries=2))


def test_another_call_goes_on_where_the_last_one_gave_up(shelf, target):
    shelf.plan = ["cut", *GONE]
    with pytest.raises(SourceUnavailable) as raised:
        get(shelf, target)
    assert "the server answers 503" in raised.value.message
    assert f"{len(CONTENT) // 2 + 1:,} bytes are here" in raised.value.message
    assert "hush" not in raised.value.message
    assert not target.exists()
    asked = len(shelf.asked)
    get(shelf, target)
    assert target.read_bytes() == CONTENT
    assert shelf.ranges()[asked] == f"bytes={len(CONTENT) // 2 + 1 - OVERLAP}-"


@pytest.mark.parametrize("etag", ['"v2"', ""])
def test_a_file_that_changed_meanwhile_is_never_mixed(shelf, target, etag):
    """With an ETag the server sends all of the new one; without, the bytes fetched again are others."""
    shelf.plan, shelf.etag = ["cut", *GONE], etag and '"v1"'
    with pytest.raises(SourceUnavailable):
        get(shelf, target)
    shelf.content, shelf.etag = CONTENT[::-1], etag
    get(shelf, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_file_that_became_shorter_is_fetched_anew(shelf, target):
    shelf.plan, shelf.etag = ["cut", *GONE], ""
    with pytest.raises(SourceUnavailable):
        get(shelf, target)
    shelf.content = CONTENT[:1000]
    get(shelf, target)
    assert target.read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("trouble", ["ignore_range", "wrong_range"])
def test_a_server_that_does_not_know_ranges_starts_again(shelf, target, trouble):
    shelf.plan = ["cut", trouble]
    get(shelf, target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(shelf, target):
    body = (200, {"Content-Length": str(len(CONTENT))}, CONTENT[:1000])
    shelf.plan = [(503, {}, b"")] * 2 + ["cut"] + [body] * 50
    with pytest.raises(SourceUnavailable, match=r"could not be downloaded: .*bytes are here"):
        get(shelf, target)
    assert len(shelf.asked) < 10


def test_a_part_without_its_state_is_not_trusted(shelf, target):
    target.parent.mkdir()
    target.with_name("model.bin.part").write_bytes(b"of who knows what")
    get(shelf, target)
    assert target.read_bytes() == CONTENT
    assert shelf.ranges() == [None]


def test_a_length_may_be_unknown(shelf, target):
    shelf.plan = ["chunked"]
    totals = set()
    get(shelf, target, progress=lambda done, total: totals.add(total))
    assert target.read_bytes() == CONTENT
    assert totals == {None}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(shelf, target, status):
    shelf.plan = [(status, {"Retry-After": "3600", "Content-Type": "text/html"}, b"busy")] * 2
    get(shelf, target)
    assert target.read_bytes() == CONTENT


PAGES = [
    (200, "<title>Google Drive - Quota exceeded</title>", "downloaded too often"),
    (200, "<title>Google Drive - Virus scan warning</title> can't scan this file for viruses", "virus scan"),
    (200, "<html><title>Sign\n in</title>", "a web page instead of the file: Sign in"),
    (403, "<title>Quota exceeded</title>", "downloaded too often"),
]


@pytest.mark.parametrize(("status", "page", "complaint"), PAGES)
def test_a_page_is_not_taken_for_the_file(shelf, target, status, page, complaint):
    shelf.plan = [(status, {"Content-Type": "text/html; charset=utf-8"}, page.encode())]
    with pytest.raises(SourceUnavailable, match=complaint) as raised:
        get(shelf, target)
    assert "by hand" in raised.value.hint
    assert not target.exists()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(404, NotFound, "no file at"), (401, ConfigurationError, "HF_TOKEN"), (400, SourceUnavailable, "answers 400")],
)
def test_a_refusal_is_not_tried_again(shelf, target, status, error, words):
    shelf.plan = [(status, {}, b"")]
    with pytest.raises(error) as raised:
        get(shelf, target)
    assert words in str(raised.value)
    assert len(shelf.asked) == 1


def test_encoded_bytes_are_not_stored(shelf, target):
    shelf.plan = [(200, {"Content-Encoding": "gzip"}, b"squeezed")]
    with pytest.raises(SourceUnavailable, match="encoded"):
        get(shelf, target)


def test_redirects_are_followed_and_secrets_stay_with_the_first_host(shelf, target):
    with serving(Shelf(CONTENT)) as other:
        shelf.plan = [(302, {"Location": f"{other.url}/there"}, b"")]
        get(shelf, target, headers={"Authorization": "Bearer hush"})
        assert shelf.asked[0][1]["Authorization"] == "Bearer hush"
        assert "Authorization" not in other.asked[0][1]
    assert target.read_bytes() == CONTENT


def test_redirects_in_a_circle_end(shelf, target):
    shelf.plan = [(302, {"Location": "/file"}, b"")] * 100
    with pytest.raises(SourceUnavailable, match="redirects"):
        get(shelf, target)


def test_nobody_answers(target):
    with serving(Shelf()) as shelf:
        pass
    with pytest.raises(SourceUnavailable, match="could not be downloaded"):
        get(shelf, target)


def test_a_full_disk_is_told_before_the_download(shelf, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(ConfigurationError, match=r"needs 400,000 bytes more, and 1,000 are free"):
        get(shelf, target)


def test_a_disk_that_fills_up_meanwhile_is_told(shelf, target):
    target.parent.mkdir()
    target.with_name("model.bin.part").symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match="No space left on device") as raised:
        get(shelf, target)
    assert "make room" in raised.value.hint


def test_a_folder_that_cannot_be_made_is_told(shelf, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        get(shelf, tmp_path / "file" / "model.bin")


def test_two_processes_do_not_write_one_file(shelf, target):
    def second(done, total):
        with pytest.raises(ConfigurationError, match="another process is downloading"):
            get(shelf, target)

    get(shelf, target, progress=second)
    assert target.read_bytes() == CONTENT


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_trickle_is_a_stall_and_a_download_has_an_end():
    clock = Clock()
    pace = Pace(Patience(stall_seconds=10, least_rate=100, total_seconds=60), deadline=60, clock=clock)
    for clock.now in (4.0, 9.0, 11.0):
        pace.got(1000)
    clock.now = 22.0
    with pytest.raises(Interrupted, match="only 1 bytes came in 11 s"):
        pace.got(1)
    clock.now = 61.0
    with pytest.raises(Interrupted, match="longer than 60 s in all"):
        pace.got(10**6)
