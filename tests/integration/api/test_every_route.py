"""Every route, asked by a limited key about what belongs to others: nothing of it is found, shown or changed.

A new route makes the first test fail until `ROUTES` says how it keeps callers apart.
"""

import json
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
import pytest
from dpiqa.api.dependencies import get_administrator, get_event_source, get_reader, get_submitter
from fastapi.routing import APIRoute
from support.ledger import ALONE, STUDENT, Ledger, ref

from dpiqa.access import Grants
from dpiqa.addresses import S3Address
from dpiqa.profiles import Profile
from dpiqa.requirement import Pair, Preparation, RequirementRequest, Stability
from dpiqa.routing import decide
from dpiqa.storage.api_keys import KeyRequest, create_key
from dpiqa.storage.claims import claim
from dpiqa.storage.explanations import request_explanation
from dpiqa.storage.items import Rejected, Scored
from dpiqa.storage.profiles import remember_profile
from dpiqa.storage.reconciliations import ReconciliationRequest, request_reconciliation
from dpiqa.storage.reports import request_report
from dpiqa.storage.requirements import add_requirement, save_preparation
from dpiqa.storage.results import record
from dpiqa.storage.watches import add_watch
from dpiqa.types import Direction, JobKind, KeyScope, Reason, Stage

OURS, THEIRS = "ours", "theirs-bucket"
#: Also what is in the same bucket beside the prefix of the key.
GRANTS = [f"s3://{OURS}/", "s3://shared/ours/"]
JUDGE = STUDENT.model_copy(update={"name": "theirs-model", "sha256": "c" * 64})
THEIR_PROFILE = Profile(name="theirs-profile", version=1, student="theirs-model")
CANARY = "canary"  #: part of each of their keys


@dataclass
class World:
    """The part of the ledger that one party owns."""

    bucket: str
    prefix: str
    job: str
    listed: str  #: a job of kind list
    manifest: str  #: a job of a manifest
    watch: str
    reconciliation: str
    requirement: str
    key: str  #: of a scored object
    scorer: str
    profile: str


def make_world(ledger, bucket, prefix, card, profile, requirement, secret=""):
    images = [ref(f"{prefix}{secret}{n}.png", f"{secret}{n}", bucket=bucket) for n in range(4)]
    job, ids = ledger.submit(images, bucket=bucket, prefix=prefix, profile=profile)
    ledger.do(request_report, job.id, f"s3://{bucket}/{prefix}{secret}report.csv")
    held = ledger.do(
        claim, ids, stage=Stage.STUDENT, owner="w", lease_seconds=60, scorer_ids={profile.id: card.scorer_id}
    )
    outcomes = [Scored(c, 0.2 * n, c.ref.etag) for n, c in enumerate(held[:3], 1)]
    outcomes.append(Rejected(held[3], Reason.CORRUPT))
    ledger.do(record, Stage.STUDENT, profile, card, outcomes, decide=decide, max_errors=5)
    ledger.do(request_explanation, bucket, images[0].key, profile.id)
    listed = ledger.job(kind=JobKind.LIST, bucket=bucket, profile=profile, keys=[f"{prefix}{secret}0.png"])
    manifest = ledger.job(kind=JobKind.MANIFEST, bucket=bucket, profile=profile)
    watch = ledger.do(add_watch, S3Address(bucket, prefix), profile, backfill=False).watch
    ledger.do(remember_profile, profile)
    asked = ReconciliationRequest(address=S3Address(bucket, prefix), profile=profile.id)
    reconciliation = ledger.do(request_reconciliation, asked)
    pairs = tuple(Pair(f"s3://{bucket}/{prefix}{secret}isp/{n}.jpg", n / 4) for n in range(5))
    request = RequirementRequest(name=requirement, pairs=pairs, direction=Direction.LOWER, model=STUDENT.name)

    def keep(c):
        added = add_requirement(c, request, digests=[secret or "d"] * 5)
        stability = Stability(srcc=1.0, mae=0.1, scores=(0.5,) * 5)
        features = np.zeros((5, 2), np.float32)
        save_preparation(
            c,
            added,
            Preparation(scorer_id=STUDENT.scorer_id, features=features, stability=stability, contradictions=()),
        )

    ledger.do(keep)
    return World(
        bucket,
        prefix,
        str(job.id),
        str(listed.id),
        str(manifest.id),
        str(watch.job.id),
        str(reconciliation.id),
        f"{requirement}@1",
        images[0].key,
        card.scorer_id,
        profile.id,
    )


@pytest.fixture
def ledger(client):
    return Ledger(client.app.state.engine)


@pytest.fixture
def ours(ledger):
    return make_world(ledger, OURS, "", STUDENT, ALONE, "our-requirement")


@pytest.fixture
def theirs(ledger):
    return make_world(ledger, THEIRS, "", JUDGE, THEIR_PROFILE, "theirs-requirement", CANARY)


@pytest.fixture
def beside(ledger):
    """Objects in the same bucket as a grant, under a prefix that only begins alike."""
    return make_world(ledger, "shared", "ours-not/", JUDGE, THEIR_PROFILE, "beside-requirement", CANARY)


@pytest.fixture
def ask(client, ledger):
    """Make a request with the limited key."""
    request = KeyRequest(name="us", scopes=[KeyScope.READ, KeyScope.SUBMIT], grants=Grants.of(GRANTS))
    _, text = ledger.do(create_key, request)

    def send(method, path, headers=None, **more):
        return client.request(method, path, headers={"X-API-Key": text, **(headers or {})}, **more)

    return send


def jobs_of(world):
    return [world.job, world.listed, world.manifest, world.watch]


def event(world):
    created = {
        "eventSource": "minio:s3",
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": "2026-01-01T00:00:00Z",
        "s3": {"bucket": {"name": world.bucket}, "object": {"key": f"{world.prefix}new.png", "eTag": "e", "size": 1}},
    }
    gone = {
        **created,
        "eventName": "s3:ObjectRemoved:Delete",
        "s3": {"bucket": {"name": world.bucket}, "object": {"key": world.key}},
    }
    return {"Records": [created, gone]}


def submissions(world):
    """Bodies of jobs that read, or write, what belongs to a party."""
    s3 = f"s3://{world.bucket}/{world.prefix}"
    own = {"bucket": OURS}
    return [
        {"bucket": world.bucket, "prefix": world.prefix},
        {"source": s3},
        {"kind": "watch", "source": s3},
        {"kind": "list", "bucket": world.bucket, "keys": [world.key]},
        {"kind": "manifest", "source": f"{s3}list.csv"},
        {"kind": "inventory", "source": f"{s3}manifest.json"},
        {"kind": "folder", "path": "/srv/photos"},
        {**own, "report": f"{s3}report.csv"},
    ]


def pairs(world):
    return [{"path": f"s3://{world.bucket}/{world.prefix}{n}.jpg", "score": n / 4} for n in range(5)]


def examples(world):
    """The form of a requirement."""
    rows = pairs(world)
    images, scores = [row["path"] for row in rows], [str(row["score"]) for row in rows]
    return {"name": uuid4().hex, "model": "student", "image": images, "image_score": scores}


def views(world):
    """Parameters of views of a party's scores."""
    within = f"bucket={world.bucket}&prefix={world.prefix}&profile={world.profile}"
    return [within, *(f"job={job}" for job in jobs_of(world))]


#: Requests about a party that must not be found: (method, path) of the route -> (path, more arguments) of each.
NOT_FOUND = {
    ("GET", "/v1/jobs/{job_id}"): lambda w: [(f"/v1/jobs/{job}", {}) for job in jobs_of(w)],
    ("GET", "/v1/jobs/{job_id}/items"): lambda w: [(f"/v1/jobs/{job[:13]}/items", {}) for job in jobs_of(w)],
    ("GET", "/v1/jobs/{job_id}/report"): lambda w: [(f"/v1/jobs/{job}/report", {}) for job in jobs_of(w)],
    ("GET", "/v1/jobs/{job_id}/events"): lambda w: [(f"/v1/jobs/{job}/events", {}) for job in jobs_of(w)],
    ("PATCH", "/v1/jobs/{job_id}"): lambda w: [(f"/v1/jobs/{w.listed}", {"json": {"priority": 3}})],
    ("GET", "/v1/scores"): lambda w: [
        (f"/v1/scores?bucket={w.bucket}&prefix={w.prefix}&profile={w.profile}", {}),
        *[(f"/v1/scores?job={job}", {}) for job in jobs_of(w)],
    ],
    ("GET", "/v1/scores/export"): lambda w: [
        (f"/v1/scores/export?bucket={w.bucket}&prefix={w.prefix}&profile={w.profile}", {}),
        (f"/v1/scores/export?job={w.job}", {}),
    ],
    ("GET", "/v1/scores/lookup"): lambda w: [(f"/v1/scores/lookup?bucket={w.bucket}&key={w.key}", {})],
    ("GET", "/v1/stats"): lambda w: [
        (f"/v1/stats?bucket={w.bucket}&prefix={w.prefix}&profile={w.profile}", {}),
        (f"/v1/stats?bucket={w.bucket}&prefix={w.prefix}&profile={w.profile}&group_by=day", {}),
        (f"/v1/stats?job={w.job}&group_by=reason", {}),
    ],
    ("GET", "/v1/threshold"): lambda w: [(f"/v1/threshold?{path}", {}) for path in views(w)],
    ("GET", "/v1/scores/sample"): lambda w: [(f"/v1/scores/sample?{path}", {}) for path in views(w)],
    ("GET", "/v1/comparison"): lambda w: [(f"/v1/comparison?{path}&second=other@1", {}) for path in views(w)],
    ("GET", "/v1/explanations"): lambda w: [
        (f"/v1/explanations?bucket={w.bucket}&key={w.key}&profile={w.profile}", {})
    ],
    ("POST", "/v1/explanations"): lambda w: [
        ("/v1/explanations", {"json": {"bucket": w.bucket, "key": w.key, "profile": w.profile}})
    ],
    ("GET", "/v1/labels"): lambda w: [(f"/v1/labels?bucket={w.bucket}&prefix={w.prefix}", {})],
    ("GET", "/v1/labels/export"): lambda w: [(f"/v1/labels/export?bucket={w.bucket}&prefix={w.prefix}", {})],
    ("PUT", "/v1/labels"): lambda w: [
        ("/v1/labels", {"json": {"labels": [{"bucket": w.bucket, "key": w.key, "verdict": "reject"}]}})
    ],
    ("POST", "/v1/profiles"): lambda w: [
        ("/v1/profiles", {"json": {"name": uuid4().hex, "base": w.profile, "cutoff": 0.4}})
    ],
    ("GET", "/v1/models/{scorer_id}"): lambda w: [(f"/v1/models/{w.scorer}", {})],
    ("GET", "/v1/requirements/{requirement}"): lambda w: [
        (f"/v1/requirements/{w.requirement}", {}),
        (f"/v1/requirements/{w.requirement.partition('@')[0]}", {}),
    ],
    ("GET", "/v1/watches/{job_id}"): lambda w: [(f"/v1/watches/{w.watch}", {})],
    ("GET", "/v1/reconciliations/{reconciliation}"): lambda w: [(f"/v1/reconciliations/{w.reconciliation}", {})],
    ("POST", "/v1/jobs"): lambda w: [("/v1/jobs", {"json": body}) for body in submissions(w)],
    ("POST", "/v1/jobs/manifest"): lambda w: [
        (f"/v1/jobs/manifest?bucket={OURS}&report=s3://{w.bucket}/{w.prefix}r.csv", {"content": b"a.png\n"})
    ],
    ("POST", "/v1/watches"): lambda w: [("/v1/watches", {"json": {"source": f"s3://{w.bucket}/{w.prefix}"}})],
    ("POST", "/v1/reconciliations"): lambda w: [
        ("/v1/reconciliations", {"json": {"source": f"s3://{w.bucket}/{w.prefix}"}}),
        ("/v1/reconciliations", {"json": {"bucket": OURS, "inventory": f"s3://{w.bucket}/{w.prefix}manifest.json"}}),
    ],
    ("POST", "/v1/requirements"): lambda w: [
        ("/v1/requirements", {"json": {"name": uuid4().hex, "model": "student", "pairs": pairs(w)}})
    ],
    ("POST", "/v1/jobs/{job_id}/pause"): lambda w: [(f"/v1/jobs/{job}/pause", {}) for job in jobs_of(w)],
    ("POST", "/v1/jobs/{job_id}/resume"): lambda w: [(f"/v1/jobs/{job}/resume", {}) for job in jobs_of(w)],
    ("POST", "/v1/jobs/{job_id}/retry"): lambda w: [(f"/v1/jobs/{job}/retry", {}) for job in jobs_of(w)],
    ("POST", "/v1/jobs/{job_id}/cancel"): lambda w: [(f"/v1/jobs/{job}/cancel", {}) for job in jobs_of(w)],
    ("DELETE", "/v1/watches/{job_id}"): lambda w: [(f"/v1/watches/{w.watch}", {})],
    ("DELETE", "/v1/jobs/{job_id}"): lambda w: [(f"/v1/jobs/{job}?force=true", {}) for job in jobs_of(w)],
}
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
#: The same of the pages, whose answers are HTML or pictures.
PAGES_NOT_FOUND = {
    ("GET", "/jobs/{job_id}"): lambda w: [(f"/jobs/{job}", {}) for job in jobs_of(w)],
    ("GET", "/jobs/{job_id}/items"): lambda w: [(f"/jobs/{job}/items?state=rejected", {}) for job in jobs_of(w)],
    ("POST", "/jobs/{job_id}/{action}"): lambda w: [
        (f"/jobs/{job}/{action}", {"headers": SAME_ORIGIN})
        for job in jobs_of(w)
        for action in ("pause", "resume", "cancel", "retry", "priority", "delete", "nonsense")
    ],
    ("GET", "/scores"): lambda w: [
        (f"/scores?bucket={w.bucket}&prefix={w.prefix}&profile={w.profile}", {}),
        *[(f"/scores?job={job}", {}) for job in jobs_of(w)],
    ],
    ("GET", "/requirements/{requirement}"): lambda w: [(f"/requirements/{w.requirement}", {})],
    ("GET", "/requirements/new"): lambda w: [(f"/requirements/new?correct={w.requirement}", {})],
    ("POST", "/requirements/new"): lambda w: [
        ("/requirements/new", {"data": {"marked": [f"bucket={w.bucket}&key={w.key}"]}, "headers": SAME_ORIGIN})
    ],
    ("POST", "/requirements"): lambda w: [("/requirements", {"data": examples(w), "headers": SAME_ORIGIN})],
    ("POST", "/requirements/try"): lambda w: [
        ("/requirements/try", {"data": {"requirement": name, "addresses": address}, "headers": SAME_ORIGIN})
        for name, address in ((w.requirement, f"s3://{OURS}/0.png"), (w.requirement, f"s3://{w.bucket}/{w.key}"))
    ],
    ("GET", "/threshold"): lambda w: [(f"/threshold?{path}", {}) for path in views(w)],
    ("GET", "/compare"): lambda w: [(f"/compare?{path}&second=other@1", {}) for path in views(w)],
    ("GET", "/image"): lambda w: [(f"/image?bucket={w.bucket}&key={w.key}", {})],
    ("POST", "/scores/marked"): lambda w: [
        (
            "/scores/marked",
            {"data": {"profile": w.profile, "marked": [f"bucket={w.bucket}&key={w.key}"]}, "headers": SAME_ORIGIN},
        )
    ],
    ("GET", "/image/regions"): lambda w: [(f"/image/regions?bucket={w.bucket}&key={w.key}&profile={w.profile}", {})],
    ("POST", "/image/regions"): lambda w: [
        (
            "/image/regions",
            {"data": {"bucket": w.bucket, "key": w.key, "profile": w.profile}, "headers": SAME_ORIGIN},
        )
    ],
    ("GET", "/thumbnail"): lambda w: [(f"/thumbnail?bucket={w.bucket}&key={w.key}", {})],
}
#: Requests whose answers may hold what is ours alone.
SHOWN_IN_PART = {
    ("GET", "/"): ["/"],
    ("GET", "/jobs"): ["/jobs", "/jobs?state=running"],
    ("GET", "/v1/jobs"): ["/v1/jobs", f"/v1/jobs?bucket={THEIRS}", "/v1/jobs?kind=manifest"],
    ("GET", "/requirements"): ["/requirements"],
    ("GET", "/v1/requirements"): ["/v1/requirements"],
    ("GET", "/v1/watches"): ["/v1/watches", "/v1/watches?ended=true"],
    ("GET", "/v1/reconciliations"): ["/v1/reconciliations", f"/v1/reconciliations?bucket={THEIRS}"],
    ("GET", "/v1/models"): ["/v1/models"],
    ("GET", "/v1/profiles"): ["/v1/profiles"],
}
#: Routes that tell of all buckets together.
FORBIDDEN = {("GET", "/v1/workers"), ("GET", "/v1/audit")}
#: Routes that need no key: probes, and the description of the service; and /metrics on loopback alone.
OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/login"), ("POST", "/login")}
OPEN |= {("POST", "/logout")}  # ends the session of who asks
#: Routes whose answer counts what the sender may not send.
COUNTED = {("POST", "/v1/events")}
SCOPES = {get_reader, get_submitter, get_event_source, get_administrator}
ROUTES = {*NOT_FOUND, *PAGES_NOT_FOUND, *SHOWN_IN_PART, *FORBIDDEN, *OPEN, *COUNTED}


def test_every_route_is_classified(client):
    routers = [client.app.router, *(r.original_router for r in client.app.routes if hasattr(r, "original_router"))]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    found = {
        (method, route.path)
        for route in routes
        if not (route.path == "/openapi.json" or route.path.startswith(("/docs", "/assets/")))
        for method in route.methods - {"HEAD"}  # the same function as GET
    }
    assert found == ROUTES
    for route in routes:  # and each that needs a key asks for a scope
        needed = {dependency.call for dependency in route.dependant.dependencies}
        is_open = route.path.startswith(("/docs", "/assets/", "/openapi.json"))
        assert needed & SCOPES or is_open or OPEN & {(m, route.path) for m in route.methods}, route.path


def test_what_belongs_to_others_is_not_found(ask, ours, theirs, beside, client):
    for (method, _), requests in NOT_FOUND.items():
        for world in (theirs, beside):
            for path, more in requests(world):
                answer = ask(method, path, **more)
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (path, more, answer.text)
                assert CANARY not in answer.text.replace(world.key, "")
    # Without the limit the same requests are answered: they were not refused for a mistake in them.
    for (method, _), requests in NOT_FOUND.items():
        for path, more in requests(theirs):
            if more.get("json", {}).get("kind") != "folder" and not path.endswith("/events"):
                assert client.request(method, path, **more).status_code != 404, path


@pytest.mark.parametrize("route", PAGES_NOT_FOUND, ids=" ".join)
def test_pages_of_what_belongs_to_others_are_not_found(ask, ours, theirs, beside, client, route):
    method, _ = route
    for world in (theirs, beside):
        for path, more in PAGES_NOT_FOUND[route](world):
            answer = ask(method, path, **more)
            assert answer.status_code == 404, (path, more, answer.text)
            assert CANARY not in answer.text.replace(world.key, "")
    for path, more in PAGES_NOT_FOUND[route](theirs):
        if not path.startswith("/thumbnail") and not path.endswith(("/delete", "/nonsense")):
            assert client.request(method, path, **more).status_code != 404, path


def test_lists_hold_what_is_ours_alone(ask, ours, theirs, beside, client):
    for paths in SHOWN_IN_PART.values():
        for path in paths:
            shown = ask("GET", path)
            assert shown.status_code == 200, shown.text
            for trace in (THEIRS, CANARY, "theirs", "beside", *jobs_of(theirs), *jobs_of(beside)):
                assert trace not in shown.text
        assert "theirs" in client.get(paths[0]).text
    assert {job["id"] for job in ask("GET", "/v1/jobs").json()["items"]} == {ours.job, ours.listed, ours.watch}
    assert [row["id"] for row in ask("GET", "/v1/requirements").json()["items"]] == [ours.requirement]
    assert [row["id"] for row in ask("GET", "/v1/watches").json()] == [ours.watch]
    assert [row["id"] for row in ask("GET", "/v1/reconciliations").json()["items"]] == [ours.reconciliation]
    (model,) = ask("GET", "/v1/models").json()["items"]
    assert (model["id"], model["n_results"]) == (ours.scorer, 3)
    (profile,) = ask("GET", "/v1/profiles").json()["items"]
    assert (profile["id"], profile["n_results"]) == (ours.profile, 3)
    assert ask("GET", f"/v1/models/{ours.scorer}").status_code == 200
    assert ask("GET", "/v1/jobs/latest").json()["id"] in jobs_of(ours)


def test_what_tells_of_all_buckets_is_forbidden(ask, client):
    for route in FORBIDDEN:
        answer = ask(*route)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert client.request(*route).status_code == 200


def test_events_beyond_the_grants_are_counted_and_change_nothing(ask, ours, theirs, beside, ledger):
    before = ledger.one("SELECT count(*) FROM images")
    for world in (theirs, beside):
        answer = ask("POST", "/v1/events", json=event(world)).json()
        assert (answer["images"], answer["removals"], answer["queued"], len(answer["ignored"])) == (0, 0, 0, 2)
    assert ledger.one("SELECT count(*) FROM images") == before
    assert ledger.one("SELECT count(*) FROM images WHERE NOT current") == 0


def test_a_query_of_several_grants_is_refused(ask):
    for suffix in ("", "&profile=alone@1", "&worst=50%25", "&sort=updated", "&band=bad"):
        refused = ask("GET", f"/v1/scores?min=0{suffix}")
        assert refused.status_code == 422, refused.text
        assert "s3://ours/" in refused.json()["hint"]
        assert ask("GET", f"/v1/stats?min=0{suffix if 'profile' in suffix else ''}").status_code == 422
        assert ask("GET", f"/v1/scores/export?min=0{suffix}").status_code == 422


def test_a_key_with_one_grant_needs_to_name_no_bucket(client, ours, theirs, beside, ledger):
    make_world(ledger, "shared", "ours/", STUDENT, ALONE, "shared-requirement")
    _, text = ledger.do(create_key, KeyRequest(name="one", grants=Grants.of(["s3://shared/ours/"])))
    ask = {"headers": {"X-API-Key": text}}
    for query in ("", "bucket=shared", "bucket=shared&prefix=ours/", "bucket=shared&prefix=ou"):
        page = client.get(f"/v1/scores?profile=alone@1&{query}", **ask).json()
        assert [row["key"] for row in page["items"]] == [f"ours/{n}.png" for n in range(3)]
        assert client.get(f"/v1/stats?profile=alone@1&{query}", **ask).json()["n"] == 3
        assert client.get(f"/v1/stats?profile=alone@1&group_by=bucket&{query}", **ask).json()["n"] == 3
        lines = client.get(f"/v1/scores/export?profile=alone@1&{query}", **ask).text.splitlines()
        assert len(lines) == 4
    # A grant that no roll-up counts, of a bucket with others beside it: read row by row.
    _, text = ledger.do(create_key, KeyRequest(name="odd", grants=Grants.of(["s3://shared/ours/0"])))
    ask = {"headers": {"X-API-Key": text}}
    assert client.get("/v1/stats?profile=alone@1", **ask).json()["n"] == 1
    assert [model["n_results"] for model in client.get("/v1/models", **ask).json()["items"]] == [1]
    assert client.get(f"/v1/scores?profile={THEIR_PROFILE.id}", **ask).json()["items"] == []


def test_cursors_of_others_are_refused(client, ask, ours, theirs):
    theirs_page = client.get(f"/v1/scores?bucket={THEIRS}&profile={THEIR_PROFILE.id}&limit=1").json()
    cursor = theirs_page["next_cursor"]
    assert ask("GET", f"/v1/scores?bucket={THEIRS}&profile={THEIR_PROFILE.id}&cursor={cursor}").status_code == 404
    assert ask("GET", f"/v1/scores?bucket={OURS}&profile={THEIR_PROFILE.id}&cursor={cursor}").status_code == 422
    jobs = client.get("/v1/jobs?limit=1").json()["next_cursor"]
    assert ask("GET", f"/v1/jobs?cursor={jobs}").status_code == 422


def test_our_own_work_is_submitted_seen_and_steered(ask, ours, theirs, client, ledger):
    body = {"kind": "list", "bucket": "shared", "keys": ["ours/1.png", "ours/2.png"]}
    job = ask("POST", "/v1/jobs", json=body).json()
    assert ask("GET", f"/v1/jobs/{job['id']}").status_code == 200  # although the job is of the whole bucket
    assert ask("POST", f"/v1/jobs/{job['id']}/pause").json()["state"] == "paused"
    assert ledger.sql("SELECT client, grants FROM jobs WHERE id = :id", id=job["id"]) == [("us", GRANTS)]
    mixed = ask("POST", "/v1/jobs", json={**body, "keys": ["ours/1.png", "ours-not/1.png"]})
    assert (mixed.status_code, "ours-not/1.png" in mixed.json()["detail"]) == (404, True)
    taken = {"name": "theirs-requirement", "model": "student", "pairs": pairs(ours)}
    answer = ask("POST", "/v1/requirements", json=taken)
    assert (answer.status_code, CANARY in answer.text) == (409, False)
    unknown = ask("POST", "/v1/jobs", json={"bucket": OURS, "requirement": theirs.requirement})
    never = ask("POST", "/v1/jobs", json={"bucket": OURS, "requirement": "never@1"})
    assert (unknown.status_code, never.status_code) == (422, 422)
    assert unknown.json()["detail"].replace(theirs.requirement, "never@1") == never.json()["detail"]


def test_idempotency_keys_of_clients_are_apart(ask, client, ledger):
    body, header = {"kind": "list", "bucket": OURS, "keys": ["a.png"]}, {"Idempotency-Key": "k1"}
    first = client.post("/v1/jobs", json=body, headers=header).json()
    _, other = ledger.do(
        create_key, KeyRequest(name="other", scopes=[KeyScope.SUBMIT], grants=Grants.of([f"s3://{OURS}/"]))
    )
    theirs = client.post("/v1/jobs", json={**body, "keys": ["b.png"]}, headers={**header, "X-API-Key": other})
    assert theirs.status_code == 202
    again = client.post("/v1/jobs", json={**body, "keys": ["b.png"]}, headers={**header, "X-API-Key": other})
    assert again.json()["id"] == theirs.json()["id"] != first["id"]
    conflict = client.post("/v1/jobs", json=body, headers={**header, "X-API-Key": other})
    assert (conflict.status_code, "'k1'" in conflict.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ([KeyScope.READ], {"read"}),
        ([KeyScope.SUBMIT], {"submit", "events"}),
        ([KeyScope.EVENTS], {"events"}),
        ([KeyScope.ADMIN], {"read", "submit", "events", "admin"}),
    ],
)
def test_scopes(client, ledger, scopes, allowed):
    _, text = ledger.do(create_key, KeyRequest(name="scoped", scopes=scopes))
    asked = {
        "read": ("GET", "/v1/jobs", {}),
        "submit": ("POST", "/v1/jobs", {"json": {"kind": "list", "bucket": "photos", "keys": ["a.png"]}}),
        "events": ("POST", "/v1/events", {"json": {"Event": "s3:TestEvent"}}),
        "admin": ("GET", "/v1/audit", {}),
    }
    for name, (method, path, more) in asked.items():
        answer = client.request(method, path, headers={"X-API-Key": text}, **more)
        assert (answer.status_code < 300) is (name in allowed), (name, answer.text)
        if name not in allowed:
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_every_answer_to_a_limited_key_is_free_of_secrets(ask, ours, client, ledger):
    text = json.dumps([ask("GET", "/v1/jobs").json(), client.get("/v1/audit").json()])
    (digest,) = ledger.sql("SELECT encode(digest, 'hex') AS d FROM api_keys")
    assert digest.d not in text
