"""Pages of requirements: examples from the archive and from uploads, their agreement, and a trial. No browser."""

import re
import threading

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from support.ledger import ALONE, Ledger
from support.photos import png
from support.prompting import write_line

from dpiqa.access import Grants
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.objects.s3 import S3Store
from dpiqa.requirements.builder import RequirementBuilder
from dpiqa.requirements.pending import prepare_pending
from dpiqa.settings import load_settings
from dpiqa.storage.api_keys import KeyRequest, create_key
from dpiqa.storage.engine import transaction
from dpiqa.storage.requirements import unprepared
from dpiqa.types import KeyScope

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
FIVE = {"image": [f"s3://b/{n}" for n in range(5)], "image_score": list("01010")}
HTMX = {**SAME_ORIGIN, "HX-Request": "true"}


@pytest.fixture
def settings(database_url, broker_url, s3, tmp_path):
    return load_settings(
        **s3.settings,
        database_url=database_url,
        broker_url=broker_url,
        models_dir=tmp_path,
        profile="smoke",
        api_hosts="testserver",
        decode_processes=1,
        fetch_threads=2,
        max_image_bytes=20_000,
    )


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False, follow_redirects=False) as opened:
        yield opened


@pytest.fixture
def work(client, settings, tmp_path):
    """Give a function that does a worker's part once."""
    model = write_line(tmp_path)

    def work():
        with transaction(client.app.state.engine) as c:
            waiting = unprepared(c)
        with DecodePool(1, Limits()) as decoder:
            builder = RequirementBuilder(client.app.state.engine, decoder, settings, load=lambda *_: model)
            for row_id in waiting:
                prepare_pending(builder, row_id, S3Store.from_settings(settings), threading.Event())

    return work


def send(client, data, files=(), headers=SAME_ORIGIN, path="/requirements"):
    """Send the form as a browser does: with an empty file of no name where none was chosen."""
    parts = []
    for name, value in data.items():
        parts += [(f'name="{name}"', one.encode()) for one in (value if isinstance(value, list) else [value])]
    parts += [(f'name="file"; filename="{name}"', content) for name, content in files or [("", b"")]]
    body = b"".join(b"--x\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (h.encode(), v) for h, v in parts)
    content_type = {"Content-Type": "multipart/form-data; boundary=x"}
    return client.post(path, content=body + b"--x--\r\n", headers=headers | content_type)


def form(s3, images=(), scores=(), file_scores=(), **changes):
    values = {"name": "bright", "model": "line", "direction": "higher is better", "folder": f"s3://{s3.name}/isp/"}
    rows = {"image": list(images), "image_score": list(scores), "file_score": list(file_scores)}
    return values | rows | changes


def test_uploads_and_pictures_of_the_archive_become_a_requirement(client, work, s3):
    for number, level in enumerate(LEVELS[:3]):
        s3.put(f"{number}.png", png(level))
    (images,) = S3Store.from_settings(client.app.state.settings).list(s3.name, "")
    Ledger(client.app.state.engine).submit(images, bucket=s3.name, profile=ALONE)
    marked = [f"s3://{s3.name}/{n}.png" for n in range(3)]
    chosen = [f"bucket={s3.name}&key={n}.png" for n in range(3)]
    asked = client.post("/requirements/new", data={"marked": chosen}, headers=SAME_ORIGIN).text
    assert re.findall(r'name="image" value="([^"]+)"', asked) == marked
    assert f's3://{s3.name}/requirements/"' in asked
    assert '<option value="line">' in asked

    files = [(f"{level}.png", png(level)) for level in LEVELS[2:]] + [("", b"")]
    values = form(s3, marked, ["0.1", "0,3", ""], ["0.5", "0.7", "0.9", ""])  # the third one is left out
    sent = send(client, values, files)
    assert (sent.status_code, sent.headers["location"]) == (303, "/requirements/bright@1")
    pending = client.get("/requirements/bright@1?part=state").text
    assert ("every 2s" in pending, "<html" in pending) == (True, False)

    work()
    shown = client.get("/requirements/bright@1").text
    assert ("every 2s" in shown, "1.00" in shown, shown.count("<circle")) == (False, True, 5)
    keys = re.findall(r'<td class="long">([^<]+)</td>', shown)
    assert sorted(keys)[:2] == ["0.png", "1.png"]
    assert all(re.fullmatch(r"isp/bright/[0-9a-f]{16}-0\.[579]\.png", key) for key in sorted(keys)[2:])
    for address in re.findall(r'src="(/thumbnail[^"]+)"', shown):
        made = client.get(address.replace("&amp;", "&"))
        assert (made.status_code, made.headers["content-type"]) == (200, "image/jpeg")
    assert "bright@1" in client.get("/requirements").text
    again = client.get("/requirements/new?correct=bright@1").text
    assert re.findall(r'name="image_score"[^>]* value="([^"]+)"', again) == ["0.1", "0.3", "0.5", "0.7", "0.9"]
    same = send(client, values, files)
    assert same.headers["location"] == "/requirements/bright@1"


@pytest.mark.parametrize(
    ("files", "scores", "changes", "words"),
    [
        ([("a.png", b"\x89PNG\r\n\x1a\n")], ["0.5"], {}, ["1 of 1 uploads cannot be used: a.png: "]),
        ([("large.png", bytes(30_000))], ["0.5"], {}, ["large.png: larger than 20000 bytes"]),
        ([("b.png", png(0.1)), ("text.png", b"words")], ["0.5", "1"], {}, ["1 of 2", "text.png: "]),
        ([("b.png", png(0.1))], ["five"], {}, ["b.png: 'five' is not a score", "0 to 1"]),
        ([("b.png", png(0.1))], [""], {}, ["b.png has no score"]),
        ([("b.png", png(0.1))], ["0.5"], {"folder": ""}, ["no place"]),
        ([("b.png", png(0.1))], ["0.5"], {"folder": "/etc"}, ["not an S3 address"]),
        ([("b.png", png(0.1))], ["0.5"], {}, ["5 to 200 image-score pairs, not 1"]),
        ([], [], {"name": "Bright", **FIVE}, ["name must be 1 to 63 lower-case letters"]),
        ([], [], {"image": list("abcde"), "image_score": list("01010")}, ["must be the address"]),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_stored(client, s3, files, scores, changes, words):
    answer = send(client, form(s3, file_scores=scores, **changes), files, HTMX)
    assert (answer.status_code, "<html" in answer.text) == (200, False)
    for word in words:
        assert word.replace("'", "&#39;") in answer.text, answer.text
    assert send(client, form(s3, file_scores=scores, **changes), files).status_code == 422  # without a script: a page
    store = S3Store.from_settings(client.app.state.settings)
    assert list(store.list(s3.name, "")) == []


def test_a_trial_is_a_job_of_its_own(client, work, s3):
    for number, level in enumerate(LEVELS):
        s3.put(f"{number}.png", png(level))
    images = [f"s3://{s3.name}/{number}.png" for number in range(5)]
    send(client, form(s3, images, [str(level) for level in LEVELS]))
    work()
    trial = {"requirement": "bright", "addresses": f"{images[0]}\n\n", "folder": f"s3://{s3.name}/isp"}
    started = send(client, trial, [("mine.png", png(0.4))], path="/requirements/try")
    assert started.status_code == 303
    target = started.headers["location"]
    assert target.startswith("/requirements/bright@1?job=")
    shown = client.get(target).text
    assert ("0 of 0 scored" in shown, "every 1s" in shown) == (True, True)
    stored = Ledger(client.app.state.engine).sql("SELECT key FROM job_keys ORDER BY position")
    assert [row.key.partition("tried/")[2][16:] or row.key for row in stored] == ["0.png", "-mine.png"]
    for addresses in ("", "s3://one/a.png\ns3://two/a.png", "words"):
        refused = send(client, trial | {"addresses": addresses}, path="/requirements/try", headers=HTMX)
        assert 'role="alert"' in refused.text


def test_a_limited_key_reaches_neither_pictures_nor_places_of_others(client, s3):
    images = [f"s3://{s3.name}/ours/{n}.png" for n in range(5)]
    ledger = Ledger(client.app.state.engine)
    _, text = ledger.do(
        create_key,
        KeyRequest(name="us", scopes=[KeyScope.READ, KeyScope.SUBMIT], grants=Grants.of([f"s3://{s3.name}/ours/"])),
    )
    headers = {**SAME_ORIGIN, "X-API-Key": text}
    asked = client.get("/requirements/new", headers=headers).text
    assert f'value="s3://{s3.name}/ours/requirements/"' in asked
    scores = ["0", "0.2", "0.4", "0.6", "0.8"]
    own = send(client, form(s3, images, scores), headers=headers)
    assert own.headers["location"] == "/requirements/bright@1"
    beyond = form(s3, [*images[:4], f"s3://{s3.name}/theirs.png"], scores)
    assert send(client, beyond, headers=headers).status_code == 404
    upload = form(s3, images, scores, ["1"])
    assert send(client, upload, [("a.png", png(0.1))], headers).status_code == 404
    for name in ("../theirs", "a/../../b"):
        outside = upload | {"folder": f"s3://{s3.name}/ours/", "name": name}
        assert send(client, outside, [("a.png", png(0.1))], headers).status_code in {404, 422}
    trial = {"requirement": "bright", "addresses": f"s3://{s3.name}/theirs.png"}
    assert send(client, trial, headers=headers, path="/requirements/try").status_code == 404
