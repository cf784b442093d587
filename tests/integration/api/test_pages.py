"""Pages: sessions in place of keys, what they show and do, and what they refuse. Without a browser."""

import html
import io
import re
import threading

import pytest
from dpiqa.api.app import create_app
from dpiqa.api.pages.thumbnails import ThumbnailFiles
from dpiqa.api.sessions import COOKIE
from fastapi.testclient import TestClient
from PIL import Image
from pyarrow import parquet
from support.ledger import ALONE, STUDENT, Ledger, ref

from dpiqa.access import Grants
from dpiqa.models.brightness import BRIGHTNESS
from dpiqa.objects.folder import FolderStore
from dpiqa.profiles import load_profile
from dpiqa.routing import decide
from dpiqa.settings import load_settings
from dpiqa.storage.api_keys import KeyRequest, create_key, revoke_keys
from dpiqa.storage.claims import claim
from dpiqa.storage.items import Rejected, Scored
from dpiqa.storage.jobs import ensure_watch
from dpiqa.storage.results import record
from dpiqa.storage.workers import heartbeat
from dpiqa.types import KeyScope, Reason, Stage

KEY = "bootstrap-key-of-these-tests-0123456789"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def opened(database_url, broker_url):
    clients = []

    def open_with(**more):
        settings = load_settings(database_url=database_url, broker_url=broker_url, profile="smoke", **more)
        clients.append(TestClient(create_app(settings), raise_server_exceptions=False, follow_redirects=False))
        return clients[-1].__enter__()

    yield open_with
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def guarded(opened):
    return opened(api_key=KEY)


@pytest.fixture
def ledger(client):
    return Ledger(client.app.state.engine)


def log_in(client, key, path="/"):
    return client.post("/login", data={"key": key, "next": path}, headers=SAME_ORIGIN)


def scored_job(ledger, scores, bucket="photos", prefix="2026/"):
    """Make a job whose images have these scores; None: rejected."""
    images = [ref(f"{prefix}{n:03}.jpg", f"e{n}", bucket=bucket) for n in range(len(scores))]
    job, ids = ledger.submit(images, bucket=bucket, prefix=prefix, profile=ALONE)
    held = ledger.do(
        claim, ids, stage=Stage.STUDENT, owner="w", lease_seconds=60, scorer_ids={ALONE.id: STUDENT.scorer_id}
    )
    by_key = {one.ref.key: one for one in held}
    outcomes = [
        Rejected(by_key[image.key], Reason.CORRUPT, "bad <b>data")
        if score is None
        else Scored(by_key[image.key], score, image.etag)
        for image, score in zip(images, scores, strict=True)
    ]
    ledger.do(record, Stage.STUDENT, ALONE, STUDENT, outcomes, decide=decide, max_errors=5)
    return job


def test_a_key_is_entered_once(guarded):
    asked = guarded.get("/jobs?state=running")
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=%2Fjobs%3Fstate%3Drunning")
    wrong = log_in(guarded, "wrong")
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    assert "wrong" in wrong.text
    entered = log_in(guarded, KEY, "/jobs?state=running")
    assert (entered.status_code, entered.headers["location"]) == (303, "/jobs?state=running")
    cookie = entered.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert KEY not in cookie
    assert guarded.get("/jobs").status_code == 200
    assert guarded.get("/v1/jobs").status_code == 200  # exports and events are read by the pages
    guarded.post("/logout", headers=SAME_ORIGIN)
    assert guarded.get("/jobs").status_code == 303


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", ""])
def test_after_the_login_a_page_of_this_service_is_shown(guarded, target):
    assert log_in(guarded, KEY, target).headers["location"] == "/"


def test_cookies_that_were_made_elsewhere_are_refused(opened, guarded):
    log_in(guarded, KEY)
    cookie = guarded.cookies[COOKIE]
    for forged in (cookie[:-2] + "xx", "bootstrap", "", cookie.split(".")[0], "é"):
        other = opened(api_key=KEY)
        assert other.get("/jobs", headers={"Cookie": f"{COOKIE}={forged}".encode()}).status_code == 303
    assert opened(api_key=KEY).get("/jobs", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 303
    shared = {"session_secret": "s" * 32}
    first = opened(api_key=KEY, **shared)
    log_in(first, KEY)
    carried = {"Cookie": f"{COOKIE}={first.cookies[COOKIE]}"}
    assert opened(api_key=KEY, **shared).get("/jobs", headers=carried).status_code == 200
    assert opened(api_key="another-key-of-this-service", **shared).get("/jobs", headers=carried).status_code == 303


def test_a_session_ends_with_its_key(guarded, ledger, monkeypatch):
    monkeypatch.setattr("dpiqa.api.authentication.REMEMBER_SECONDS", 0.0)
    _, text = ledger.do(create_key, KeyRequest(name="reader"))
    log_in(guarded, text)
    assert guarded.get("/jobs").status_code == 200
    ledger.do(revoke_keys, "reader")
    assert guarded.get("/jobs").status_code == 303


def test_pages_of_other_sites_cannot_use_a_session(guarded, ledger):
    job = scored_job(ledger, [0.5])
    log_in(guarded, KEY)
    for path in (f"/jobs/{job.id}/delete", f"/v1/jobs/{job.id}/pause", "/logout"):
        for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            refused = guarded.post(path, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin"), (path, headers)
    assert guarded.get(f"/jobs/{job.id}").status_code == 200
    # A link from another site comes without the cookie, and is followed once more from here.
    guarded.cookies.clear()
    linked = guarded.get(f"/jobs/{job.id}", headers={"Sec-Fetch-Site": "cross-site"})
    assert (linked.status_code, 'http-equiv="refresh"' in linked.text) == (200, True)


def test_every_page_forbids_what_is_not_its_own(client, ledger):
    job = scored_job(ledger, [0.2, None])
    paths = ["/", "/login", "/jobs", f"/jobs/{job.id}", "/scores?profile=alone@1", "/jobs/nothing"]
    paths += [
        "/threshold?profile=alone@1",
        f"/threshold?job={job.id}",
        "/compare",
        "/compare?profile=alone@1&second=b@1",
    ]
    for path in [*paths, "/image?bucket=photos&key=2026/000.jpg"]:
        page = client.get(path)
        policy = page.headers["content-security-policy"]
        assert "script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:", page.text)
        assert not re.search(r"(?:src|href)=\"(?!/)(?!\?)(?!#)", page.text)
        assert len(page.content) < 300_000


def test_scores_are_shown_worst_first_and_paged_without_gaps(client, ledger):
    scored_job(ledger, [n / 150 for n in range(150)])
    path, keys = "/scores?profile=alone@1&bucket=photos", []
    while path:
        page = client.get(path)
        keys += re.findall(r'data-key="([^"]+)"', page.text)
        more = re.search(r'hx-get="([^"]+)"', page.text)
        path = more.group(1).replace("&amp;", "&") if more else None
    assert keys == [f"2026/{n:03}.jpg" for n in range(150)]
    narrow = client.get("/scores?profile=alone@1&bucket=photos&min=0.5&max=0.6&prefix=&band=&job=")
    assert re.findall(r'data-key="2026/(\d+)', narrow.text) == [f"{n:03}" for n in range(75, 91)]
    assert "150 images" in narrow.text  # the histogram is of the whole range
    first = client.get("/scores?profile=alone@1&bucket=photos").text
    second = re.search(r'href="([^"]+cursor=[^"]+)"', first).group(1).replace("&amp;", "&")
    assert 'id="filters"' in client.get(second).text  # an address that is kept shows the whole page
    assert 'id="filters"' not in client.get(second, headers={"HX-Request": "true"}).text
    wrong = client.get("/scores?min=abc")
    assert (wrong.status_code, "min" in wrong.text, "pydantic" in wrong.text.lower()) == (422, True, False)


def test_pages_are_planned_for_what_they_show(client):
    """A plan for all prefixes, which Postgres takes after ten requests, reads millions of rows for some."""
    ledger = Ledger(client.app.state.engine)
    assert ledger.one("SHOW plan_cache_mode") == "force_custom_plan"


def test_a_browser_that_asks_for_nothing_gets_a_page(client):
    browser = {"Accept": "text/html,application/xhtml+xml"}
    page = client.get("/nothing", headers=browser)
    assert (page.status_code, "There is no such page." in page.text) == (404, True)
    for path, headers in (("/nothing", {}), ("/v1/nothing", browser)):
        assert client.get(path, headers=headers).json()["code"] == "not_found"


def test_the_overview_counts_failures_by_reason_and_day(client, ledger):
    scored_job(ledger, [0.2, None, None])
    old = scored_job(ledger, [None], prefix="2020/")
    ledger.sql("UPDATE jobs SET created_at = now() - interval '30 days' WHERE id = :id", id=old.id)
    watch = ledger.watch()
    (item,) = ledger.add(watch, [ref("late.jpg", "e")])
    (held,) = ledger.claim([item])
    ledger.record([Rejected(held, Reason.CORRUPT, "")])
    ledger.do(heartbeat, "w1", Stage.STUDENT, STUDENT.scorer_id, "cuda:1")
    page = client.get("/").text
    of_reason = re.search(r'corrupt</th><td class="number">4</td>(.*?)</tr>', page).group(1)
    assert re.findall(r">([0-9]+)<", of_reason) == ["2", "1"]  # today's job, and the watch
    assert ("cuda:1" in page, ">student<" in page) == (True, True)
    assert "0.0 %" in page


def test_the_overview_names_watches_of_an_older_profile_whose_model_has_other_weights(client, ledger, monkeypatch):
    first = load_profile("smoke")
    watch = ledger.do(ensure_watch, "photos", "<in>/", first)
    monkeypatch.setattr("dpiqa.profiles._built_in", lambda: (first.model_copy(update={"version": 2}),))
    today = BRIGHTNESS.scorer_id
    ledger.sql("INSERT INTO scorers (id, card) VALUES (:id, '{}')", id=today)
    assert "<strong>profiles</strong>" not in client.get("/").text

    earlier = today.replace(BRIGHTNESS.sha256[:12], "0" * 12)
    ledger.sql("INSERT INTO scorers (id, card) VALUES (:id, '{}')", id=earlier)
    (shown,) = re.findall(r"<li><strong>profiles</strong>: (.*?)</li>", client.get("/").text)
    assert f"s3://photos/&lt;in&gt;/ is watched under smoke@1 ({watch.short_id})" in shown
    assert "brightness has other weights now" in shown
    assert "add a watch of s3://photos/&lt;in&gt;/ under smoke@2 and end the old one" in shown


def test_marked_pictures_are_exported_as_parquet(client, ledger):
    scored_job(ledger, [n / 10 for n in range(5)])
    cards = client.get("/scores?profile=alone@1").text
    boxes = [html.unescape(box) for box in re.findall(r'name="marked" value="([^"]+)"', cards)]
    profile = re.search(r'name="profile" value="([^"]+)"', cards.partition('id="marked"')[2]).group(1)
    form = {"profile": profile, "marked": [boxes[3], boxes[1], boxes[3], "bucket=photos&key=unknown"]}
    sent = client.post("/scores/marked", data=form, headers=SAME_ORIGIN)
    table = parquet.read_table(io.BytesIO(sent.content))
    assert table["key"].to_pylist() == ["2026/001.jpg", "2026/003.jpg"]
    assert table["score"].to_pylist() == pytest.approx([0.1, 0.3])
    wrong = client.post("/scores/marked", data={"profile": profile, "marked": ["words"]}, headers=SAME_ORIGIN)
    assert (wrong.status_code, "grid" in wrong.text) == (422, True)


def test_a_job_is_steered_from_its_page(client, ledger):
    job = scored_job(ledger, [0.2, None, None])
    page = client.get(f"/jobs/{job.id}").text
    assert ("Retry all that failed" in page, "corrupt" in page) == (True, True)
    assert "bad &lt;b&gt;data" in client.get(f"/jobs/{job.id}/items?reason=corrupt").text
    htmx = {**SAME_ORIGIN, "HX-Request": "true"}
    retried = client.post(f"/jobs/{job.id}/retry", data={"reason": "corrupt"}, headers=htmx).text
    assert ("<html" in retried, "queued" in retried) == (False, True)
    assert "paused" in client.post(f"/jobs/{job.id}/pause", headers=htmx).text
    refused = client.post(f"/jobs/{job.id}/delete", headers=htmx)  # it has not ended
    assert (refused.status_code, 'role="alert"' in refused.text) == (200, True)
    plain = client.post(f"/jobs/{job.id}/cancel", headers=SAME_ORIGIN)
    assert (plain.status_code, plain.headers["location"]) == (303, f"/jobs/{job.id}")
    deleted = client.post(f"/jobs/{job.id}/delete", headers=htmx)
    assert (deleted.status_code, deleted.headers["hx-redirect"]) == (204, "/jobs")


def test_who_may_only_read_sees_no_buttons(guarded, ledger):
    job = scored_job(ledger, [None])
    _, text = ledger.do(create_key, KeyRequest(name="reader", scopes=[KeyScope.READ]))
    log_in(guarded, text)
    assert "hx-post" not in guarded.get(f"/jobs/{job.id}").text
    refused = guarded.post(f"/jobs/{job.id}/pause", headers=SAME_ORIGIN)
    assert (refused.status_code, "scope" in refused.text) == (403, True)


def test_a_limited_key_sees_its_own_part(guarded, ledger):
    scored_job(ledger, [0.1], bucket="ours")
    theirs = scored_job(ledger, [0.2], bucket="theirs")
    _, text = ledger.do(create_key, KeyRequest(name="us", grants=Grants.of(["s3://ours/"])))
    log_in(guarded, text)
    overview = guarded.get("/").text
    assert ("s3://ours/" in overview, "theirs" in overview, "Workers alive" in overview) == (True, False, False)
    assert guarded.get(f"/jobs/{theirs.id}").status_code == 404
    assert guarded.get("/image?bucket=theirs&key=2026/000.jpg").status_code == 404
    assert guarded.get("/thumbnail?bucket=theirs&key=2026/000.jpg").status_code == 404
    assert 'data-key="2026/000.jpg"' in guarded.get("/scores?profile=alone@1").text


def test_an_image_shows_why_it_has_no_score(client, ledger):
    scored_job(ledger, [0.3, None, 0.35, 0.9])
    rejected = client.get("/image?bucket=photos&key=2026/001.jpg").text
    assert ("It has no score" in rejected, "corrupt: bad &lt;b&gt;data" in rejected) == (True, True)
    shown = client.get("/image?bucket=photos&key=2026/000.jpg").text
    assert ("0.300" in shown, "The profile has no teacher" in shown, STUDENT.scorer_id in shown) == (True, True, True)
    beside = re.findall(r"key=2026%2F(\d+)\.jpg", shown.partition("Nearest scores in the folder")[2])
    assert list(dict.fromkeys(beside)) == ["002", "003"]


def test_thumbnails_are_made_on_demand_and_kept(opened, tmp_path, ledger, monkeypatch):
    folder = tmp_path / "photos"
    (folder / "2026").mkdir(parents=True)
    Image.new("RGB", (900, 300), (200, 30, 30)).save(folder / "2026/000.jpg")
    (folder / "2026/001.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    (folder / "2026/002.jpg").write_bytes(b"of no job")
    store = FolderStore((folder,))
    bucket = f"file://{folder}"
    images = [store.head(bucket, f"2026/{n:03}.jpg") for n in range(2)]
    ledger.submit(images, bucket=bucket, prefix="2026/", profile=ALONE)
    client = opened(folders=str(folder), api_hosts="testserver")
    address = f"/thumbnail?bucket=file://{folder}"
    made = client.get(f"{address}&key=2026/000.jpg&side=256")
    assert made.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(made.content)).size == (256, 85)
    assert "public" not in made.headers["cache-control"]
    rejected = client.get(f"{address}&key=2026/001.jpg")
    assert (rejected.headers["content-type"], "truncated" in rejected.text) == ("image/svg+xml", True)
    assert client.get(f"{address}&key=2026/002.jpg").status_code == 404  # not a way to read what is not scored
    assert client.get(f"{address}&key=../secret").status_code == 404
    assert client.get(f"{address}&key=2026/000.jpg&side=256").content == made.content
    monkeypatch.setattr(client.app.state.thumbnails, "_turns", threading.Semaphore(0))  # all are taken by a slow store
    assert "cannot be shown now" in client.get(f"{address}&key=2026/000.jpg&side=64").text
    assert client.get(f"{address}&key=2026/000.jpg&side=256").content == made.content  # kept, so nothing is made
    monkeypatch.undo()
    Image.new("RGB", (30, 30)).save(folder / "2026/000.jpg")
    assert "newer version" in client.get(f"{address}&key=2026/000.jpg&side=300").text


def test_kept_thumbnails_have_a_limit(tmp_path):
    files = ThumbnailFiles(tmp_path / "kept", max_bytes=1000)
    for n in range(20):
        files.write(str(n), bytes(100))
    kept = [n for n in range(20) if files.read(str(n))]
    assert len(kept) <= 10
    assert 19 in kept
    files.write("large", bytes(2000))
    assert files.read("large") is None
