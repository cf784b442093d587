"""Examples of bodies for the OpenAPI document, by the name of their model. A test checks that each fits its schema."""

from typing import Any

_JOB_ID = "0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f"
_WATCH_ID = "7d4d1c52-3f0e-4c55-9d0b-5f6c2a9e1b77"
_RECONCILIATION_ID = "5f0c2a1b-8a51-4b7e-9a57-0d1c3a0a5d5f"
_SCORER = "bundled-student:3f2a9c81d4e6:squash-bilinear-512x512-v2:float32"
_NINE, _TEN = "2026-05-17T09:00:00Z", "2026-05-17T10:00:00Z"
_SCALE = "MOS/100, nominally 0-1, higher is better, not clamped"

_JOB: dict[str, Any] = {
    "id": _JOB_ID,
    "kind": "prefix",
    "state": "running",
    "bucket": "photos",
    "prefix": "2024/",
    "profile": "default@1",
    "profiles": ["default@1"],
    "priority": 0,
    "created_at": _NINE,
    "listed_at": _NINE,
    "finished_at": None,
    "pruned_at": None,
    "scored_by_student": 870,
    "escalated": 41,
    "error": None,
    "pause_reason": None,
    "source": {"include": ["*.jpg"], "exclude": [], "all_names": False},
    "details": True,
    "tally": {"taken": 1000, "taken_bytes": 3_200_000_000, "passed_over": {"name": 12}, "malformed": 0},
}
_STATUS = _JOB | {
    "total": 1000,
    "done": 829,
    "counts": {"queued": 130, "leased": 41, "scored": 821, "rejected": 8},
    "open_by_stage": {"student": 130, "teacher": 41},
    "counts_by_profile": {"default@1": {"queued": 130, "leased": 41, "scored": 821, "rejected": 8}},
    "reused": 0,
    "failures": {"truncated": 8},
    "examples": {"truncated": ["2024/017.jpg"]},
    "rate_per_second": 5.5,
    "eta_seconds": 31.1,
    "duration_seconds": 160.2,
    "mean_rate_per_second": 5.2,
    "waiting_for": None,
    "report": None,
    "callback": None,
}
_WATCH = _JOB | {
    "id": _WATCH_ID,
    "kind": "watch",
    "state": "watching",
    "backfill_job_id": _JOB_ID,
    "events": 312,
    "passed_over": 4,
    "last_event_at": _TEN,
    "last_event_via": "queue",
    "reconcile_seconds": 86400,
    "reconcile_due_at": "2026-05-18T09:00:00Z",
}
_ITEM = {
    "id": 4711,
    "profile": "default@1",
    "bucket": "photos",
    "key": "2024/017.jpg",
    "etag": "9b2cf535f27731c974343645a3985328",
    "state": "rejected",
    "stage": "student",
    "reason": "truncated",
    "detail": "the file ends within the image data",
    "route": None,
    "reused": False,
    "errors": 0,
    "crashes": 0,
    "created_at": _NINE,
    "finished_at": _TEN,
}
_MEASURES = {
    "width": 4000, "height": 3000, "sharpness": 0.2143, "contrast": 0.5569, "clipped_dark": 0.0312,
    "clipped_bright": 0.0004, "noise": 1.2071, "blockiness": 0.0217, "colour_cast": 0.0391,
}  # fmt: skip
_SCORE = {
    "bucket": "photos",
    "key": "2024/001.jpg",
    "etag": "5d41402abc4b2a76b9719d911017c592",
    "current": True,
    "score": 0.271,
    "scale": _SCALE,
    "percentile": 4.2,
    "band": "bad",
    "profile": "default@1",
    "model": _SCORER,
    "stage": "student",
    "status": "final",
    "route": "clear",
    "student_score": 0.271,
    "teacher_score": None,
    "job_id": _JOB_ID,
    "updated_at": _TEN,
    "measures": _MEASURES,
}
_STORED_SCORE = {
    "score": 0.271,
    "scale": _SCALE,
    "percentile": 4.2,
    "band": "bad",
    "model": _SCORER,
    "etag": "5d41402abc4b2a76b9719d911017c592",
    "version_id": None,
    "content_hash": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    "copied_from": None,
    "current": True,
    "last_modified": _NINE,
    "scored_at": _TEN,
    "attempt": 1,
    "job_id": _JOB_ID,
}
_REQUIREMENT = {
    "id": "portraits@1",
    "name": "portraits",
    "version": 1,
    "state": "pending",
    "direction": "higher is better",
    "model": "promptiqa",
    "force": False,
    "error": None,
    "created_at": _NINE,
    "finished_at": None,
    "n_pairs": 10,
    "checks": [],
}
_PAIRS = [
    {"path": f"s3://photos/isp/{n}.jpg", "score": score}
    for n, score in enumerate((0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.95), 1)
]
_RECONCILIATION = {
    "id": _RECONCILIATION_ID,
    "bucket": "photos",
    "prefix": "2024/",
    "profile": "default@1",
    "inventory": None,
    "dry_run": False,
    "max_deleted": 10,
    "watch_id": _WATCH_ID,
    "state": "complete",
    "error": None,
    "as_of": _NINE,
    "counts": {"listed": 1000, "ledger": 998, "unchanged": 997, "missing": 2, "changed": 0, "deleted": 1, "marked": 1},
    "examples": {"missing": ["2024/998.jpg", "2024/999.jpg"], "deleted": ["2024/003.jpg"]},
    "job_id": _JOB_ID,
    "created_at": _NINE,
    "started_at": _NINE,
    "finished_at": _TEN,
}
_AUDIT_ENTRY = {
    "id": 17,
    "at": _NINE,
    "actor": "key ingest",
    "key_id": "ingest",
    "account": None,
    "address": "192.0.2.7",
    "request_id": "c0ffee",
    "action": "submit",
    "subject": _JOB_ID,
    "detail": {"bucket": "photos", "prefix": "2024/"},
}
_SCORER_ROW = {
    "id": _SCORER,
    "model": "bundled-student",
    "scale": _SCALE,
    "precision": "fp32",
    "requirement": None,
    "has_reference": True,
    "n_results": 821,
    "first_seen_at": _NINE,
}
_PROFILE = {
    "id": "default@1",
    "student": "bundled-student",
    "teacher": None,
    "max_escalated_share": 0.1,
    "description": "The student that comes with dpiqa.",
    "first_seen_at": _NINE,
    "n_results": 821,
}
_WORKER = {
    "id": "gpu-1:4242:student",
    "stage": "student",
    "host": "gpu-1",
    "pid": 4242,
    "device": "cuda:0",
    "model": _SCORER,
    "started_at": _NINE,
    "seen_at": _TEN,
}
_QUANTILES = {
    "p1": 0.19,
    "p5": 0.27,
    "p10": 0.33,
    "p25": 0.44,
    "p50": 0.57,
    "p75": 0.66,
    "p90": 0.73,
    "p95": 0.77,
    "p99": 0.82,
}
_CHECKS = [{"part": part, "ok": True, "detail": "", "hint": ""} for part in ("database", "broker")]
_PAGE_END = {"next_cursor": None, "partial": False}
_DRAW = {"profile": "default@1", "bucket": "photos", "prefix": "2024/", "job": None, "min": None, "max": None}
_CUTOFF = {
    "cutoff": 0.35,
    "precision": {"value": 0.75, "low": 0.47, "high": 0.91, "n": 12},
    "recall": {"value": 0.9, "low": 0.6, "high": 0.98, "n": 10},
}
_OF_SCORE = {name: _SCORE[name] for name in ("bucket", "key", "profile")}
_EXPLANATION = _OF_SCORE | {"state": "ready", "scorer_id": _SCORER, "score": 0.36, "effect": [[-0.04] * 8] * 8}
_EXPLANATION |= {"error": None, "created_at": _NINE, "finished_at": _TEN}
_COMPARED = {name: _SCORE[name] for name in ("bucket", "key", "etag")} | {
    "first_score": 0.31,
    "second_score": 0.66,
    "first_rank": 0.08,
    "second_rank": 0.61,
}


EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "PrefixJob": [
        {"kind": "prefix", "source": "s3://photos/2024/"},
        {"bucket": "photos", "prefix": "2024/", "exclude": ["thumbnails/*"], "report": "s3://reports/2024.parquet"},
    ],
    "WatchJob": [{"kind": "watch", "source": "s3://photos/inbox/"}],
    "ListJob": [{"kind": "list", "bucket": "photos", "keys": ["2024/001.jpg", "2024/002.jpg"]}],
    "ManifestJob": [{"kind": "manifest", "source": "s3://lists/2024.csv.gz", "bucket": "photos"}],
    "InventoryJob": [{"kind": "inventory", "source": "s3://inventories/photos/2026-05-17/manifest.json"}],
    "FolderJob": [{"kind": "folder", "path": "/srv/photos", "profiles": ["default", "smoke"]}],
    "JobChange": [{"priority": 2}],
    "RetryRequest": [{"reasons": ["access_denied", "archived"]}],
    "JobAccepted": [_JOB | {"state": "listing", "listed_at": None, "warning": None}],
    "JobPage": [{"items": [_JOB], **_PAGE_END}],
    "JobStatus": [_STATUS],
    "JobRetried": [_STATUS | {"retried": 8}],
    "ItemPage": [{"items": [_ITEM], **_PAGE_END}],
    "ScorePage": [{"items": [_SCORE], **_PAGE_END, "threshold": None}],
    "ImageScores": [
        {
            "bucket": "photos",
            "key": "2024/001.jpg",
            "deleted": False,
            "scores": [_STORED_SCORE],
            "results": [_SCORE],
            "items": [
                {name: _ITEM[name] for name in ("profile", "stage", "created_at", "finished_at")}
                | {"job_id": _JOB_ID, "etag": _SCORE["etag"], "state": "scored", "reason": None, "detail": None}
            ],
        }
    ],
    "NewExplanation": [_OF_SCORE],
    "ExplanationOut": [_EXPLANATION],
    "ExplanationAccepted": [_EXPLANATION | {"warning": None}],
    "NewLabels": [
        {
            "label_set": "portfolio",
            "labels": [{"bucket": "photos", "key": "2024/001.jpg", "etag": _SCORE["etag"], "verdict": "reject"}],
            "draw": {"profile": "default@1", "bucket": "photos", "prefix": "2024/"},
        }
    ],
    "LabelsSaved": [{"label_set": "portfolio", "saved": 1, "removed": 0}],
    "LabelPage": [
        {
            "items": [
                {
                    "bucket": "photos",
                    "key": "2024/001.jpg",
                    "etag": _SCORE["etag"],
                    "current": True,
                    "verdict": "reject",
                    "draw": _DRAW,
                    "labelled_by": "editors",
                    "labelled_at": _TEN,
                }
            ],
            **_PAGE_END,
        }
    ],
    "SampleOut": [{"items": [_SCORE], "population": 821, "draw": _DRAW}],
    "ThresholdOut": [
        {
            "profile": "default@1",
            "direction": "higher is better",
            "n": 821,
            "cutoff": 0.35,
            "n_rejected": 96,
            "share_rejected": 0.1169,
            "histogram": [{"low": 0.34, "high": 0.35, "n": 12}],
            "labels": {
                "n": 120,
                "n_rejected": 20,
                "n_random": 80,
                "is_random": True,
                "n_used": 80,
                "at": _CUTOFF,
                "curve": [_CUTOFF],
                "wanted_precision": 0.75,
                "for_precision": _CUTOFF,
                "for_precision_surely": None,
            },
        }
    ],
    "ComparisonOut": [
        {
            "profile": "default@1",
            "first": "default@1",
            "second": "careful@1",
            "first_direction": "higher is better",
            "second_direction": "higher is better",
            "population": 821,
            "n_sampled": 821,
            "n": 820,
            "correlation": {"value": 0.91, "low": 0.9, "high": 0.92, "n": 820},
            "first_cutoff": 0.35,
            "second_cutoff": 0.41,
            "n_both": 70,
            "n_first_alone": 12,
            "n_second_alone": 12,
            "n_neither": 726,
            "points": [[0.62, 0.58]],
            "rose": [_COMPARED],
            "fell": [],
            "first_alone": [_COMPARED],
            "second_alone": [],
        }
    ],
    "NewProfile": [{"name": "portfolio", "base": "default@1", "cutoff": 0.35}],
    "SavedProfile": [
        {
            "id": "portfolio@1",
            "definition": {
                "name": "portfolio",
                "version": 1,
                "description": "",
                "student": "bundled-student",
                "teacher": "bundled-teacher",
                "cutoffs": [{"at": 0.35, "margin": 0.05}],
                "max_escalated_share": 0.2,
            },
        }
    ],
    "StatsOut": [
        {
            "profile": "default@1",
            "n": 821,
            "mean": 0.551,
            "quantiles": _QUANTILES,
            "histogram": [{"low": 0.5, "high": 0.55, "n": 104}],
            "bands": {"bad": 70, "poor": 170, "fair": 340, "good": 160, "excellent": 81},
            "groups": [{"name": "photos", "n": 821, "mean": 0.551, "p5": 0.27, "p50": 0.57, "p95": 0.77}],
            "computed_at": _TEN,
        }
    ],
    "Scorers": [{"items": [_SCORER_ROW]}],
    "ScorerCard": [{"id": _SCORER, "card": {"name": "bundled-student", "licence": "Apache-2.0"}}],
    "Profiles": [{"items": [_PROFILE]}],
    "Workers": [{"items": [_WORKER]}],
    "NewRequirement": [{"name": "portraits", "model": "promptiqa", "pairs": _PAIRS}],
    "RequirementAccepted": [_REQUIREMENT | {"warning": None}],
    "RequirementPage": [{"items": [_REQUIREMENT], **_PAGE_END}],
    "RequirementDetail": [
        _REQUIREMENT | {"pairs": [pair | {"leave_one_out": None, "sha256": None} for pair in _PAIRS]}
    ],
    "NewWatch": [{"source": "s3://photos/inbox/", "reconcile_seconds": 86400}],
    "WatchAccepted": [_WATCH | {"warning": None}],
    "WatchOut": [_WATCH],
    "NewReconciliation": [{"source": "s3://photos/2024/", "dry_run": True}],
    "ReconciliationAccepted": [_RECONCILIATION | {"state": "loading", "finished_at": None, "warning": None}],
    "ReconciliationPage": [{"items": [_RECONCILIATION], **_PAGE_END}],
    "ReconciliationOut": [_RECONCILIATION],
    "EventsAccepted": [
        dict.fromkeys(("removals", "unwatched", "passed_over", "n_ignored"), 0)
        | {"images": 1, "queued": 1, "ignored": [], "warning": None}
    ],
    "AuditEntryPage": [{"items": [_AUDIT_ENTRY], **_PAGE_END}],
    "Alive": [{"status": "ok"}],
    "Ready": [{"status": "ready", "checks": _CHECKS}],
    "Problem": [
        {
            "type": "urn:dpiqa:problem:invalid_request",
            "title": "Unprocessable Content",
            "status": 422,
            "detail": "query.limit: must be at most 1000",
            "instance": "/v1/scores",
            "code": "invalid_request",
            "hint": "see /docs for the fields and their limits",
            "errors": [{"field": "query.limit", "problem": "must be at most 1000"}],
        }
    ],
}
