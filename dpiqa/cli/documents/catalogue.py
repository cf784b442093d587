"""Schemas of the documents that `--json` prints: name, version, and what they are made of.

A document is one JSON object; a command that lists prints an array of them, `dpiqa follow --json` one a line. A field
that is added keeps the version; one that is renamed, removed or changes its type or meaning raises it. `make docs`
writes the JSON Schema of each to `dpiqa/cli/json/`. Rows of scores, items and files have schemas of their own
(`dpiqa.exports.schemas`).
"""

import dataclasses
from collections.abc import Mapping
from functools import cache
from pkgutil import resolve_name
from typing import Any, NotRequired, get_type_hints
from uuid import UUID

from dpiqa.cli.documents.document import Document, Fields, made, named


@cache
def _hints(path: str) -> Mapping[str, Any]:
    """Return the fields of a dataclass or model, with their types."""
    cls = resolve_name(f"dpiqa.{path}")
    hints = get_type_hints(cls, include_extras=True)
    names = cls.model_fields if hasattr(cls, "model_fields") else [field.name for field in dataclasses.fields(cls)]
    return {name: hints[name] for name in names}


def _job_fields() -> Fields:
    from dpiqa.storage.job_queries import JOB_FIELDS  # noqa: PLC0415 - see `Shape`

    job = dict(_hints("storage.jobs:Job")) | {"profiles": tuple[str, ...], "id": UUID}
    return {name: job[name] for name in JOB_FIELDS}


def _progress_fields() -> Fields:
    from dpiqa.storage.job_queries import PROGRESS_FIELDS  # noqa: PLC0415 - see `Shape`

    report = _hints("storage.job_queries:JobReport")
    progress = {name: report[field] for name, field in PROGRESS_FIELDS.items()}
    return _job_fields() | progress | {"retried": NotRequired[int]}


def _watch_fields() -> Fields:
    watch = {name: kind for name, kind in _hints("storage.watches:Watch").items() if name != "job"}
    probe, last = (
        resolve_name(f"dpiqa.{path}") for path in ("storage.watches:Probe", "http_api.watches:ReconciliationOut")
    )
    shown = {
        "images": NotRequired[int],
        "last_probe": maybe_missing(optional(probe)),
        "last_reconciliation": maybe_missing(optional(last)),
    }
    return _job_fields() | watch | shown | {name: maybe_missing(kind) for name, kind in _check_fields().items()}


def _check_fields() -> Fields:
    anything = dict[str, Any] | None
    documents = made("Documents", lambda: {"notification": anything, "queue_policy": anything})()
    return {"checks": list_of(resolve_name("dpiqa.pipeline.event_path:Check")), "documents": documents}


def _estimate_fields() -> Fields:
    tally = {
        name: kind
        for name, kind in _hints("sources.spec:Tally").items()
        if name not in ("threshold", "taken", "taken_bytes")
    }
    estimate = made("Estimate", lambda: {"profile": str, **_hints("storage.estimates:Estimate")})()
    sizes = {"source": str, "kind": resolve_name("dpiqa.types:JobKind"), "objects": int, "bytes": int}
    return sizes | tally | {"estimates": list_of(estimate)}


def _card_fields() -> Fields:
    card: dict[str, Any] = {name: maybe_missing(kind) for name, kind in _hints("models.base:ModelCard").items()}
    return {**card, "name": str, "kind": str, "scorer_id": NotRequired[str], "stale_figures": NotRequired[list[str]]}


def maybe_missing(kind: Any) -> Any:
    """Return the type of a field that may be missing."""
    return NotRequired[kind]


def optional(kind: Any) -> Any:
    """Return the type of a value that may be null."""
    return kind | None


def list_of(kind: Any) -> Any:
    """Return the type of a list of a type that is made when it is asked for."""
    return list[kind]


_NUMBER_OR_NULL = float | None
_DOCUMENTS = (
    Document("job", 1, "A job and its progress: also a line of `dpiqa follow --json`.", made("Job", _progress_fields)),
    Document(
        "submitted-job",
        1,
        "A job as it was submitted, or as it ended.",
        made("SubmittedJob", lambda: _job_fields() | {"watch": NotRequired[UUID | None]}),
    ),
    Document("deleted-job", 1, "A job that was deleted.", made("DeletedJob", lambda: {"id": UUID, "deleted": bool})),
    Document("dry-run", 1, "The work that a source would be.", made("DryRun", _estimate_fields)),
    Document(
        "pruning",
        1,
        "Items that were, or would be, removed.",
        made(
            "Pruning",
            lambda: {
                "removed": bool,
                "jobs": list_of(made("PrunedJob", lambda: {"job": UUID, "items": int})()),
                "old_versions": int,
            },
        ),
    ),
    Document(
        "export", 1, "A file that was written.", made("Export", lambda: {"output": str, "rows": int, "schema": str})
    ),
    Document(
        "gallery",
        1,
        "A gallery that was written.",
        made("Gallery", lambda: {"output": str, "images": int, "failures": int, "bytes": int}),
    ),
    Document("lookup", 2, "Everything stored about one object.", named("http_api.scores:ImageScores")),
    Document(
        "stats",
        1,
        "Counts and distribution of scores.",
        made("Stats", lambda: {"profile": str | None, **_hints("storage.stats:ScoreStats")}),
    ),
    Document("scorer", 2, "A scorer that has scored.", named("http_api.stats:ScorerOut")),
    Document("worker", 2, "A live worker.", named("http_api.stats:WorkerOut")),
    Document(
        "validation",
        1,
        "What is wrong with a file.",
        made(
            "Validation",
            lambda: {
                "file": str,
                "schema": str,
                "rows": int,
                "problems": list_of(resolve_name("dpiqa.exports.validation:Problem")),
                "n_problems": int,
            },
        ),
    ),
    Document(
        "explanation",
        1,
        "How the regions of an image move its score.",
        made(
            "Explanation",
            lambda: {
                "image": str,
                "model": str,
                "scorer": str,
                "score": float,
                "effect": list[list[float]],
                "quadrants": list[list[float]],
                "output": str,
            },
        ),
    ),
    Document("watch", 2, "A watch.", made("Watch", _watch_fields)),
    Document("watch-check", 1, "The checks of the way of a watch's events.", made("WatchCheck", _check_fields)),
    Document(
        "reconciliation",
        2,
        "A comparison of a bucket with the ledger.",
        named("http_api.watches:ReconciliationOut"),
    ),
    Document(
        "callback-secret",
        1,
        "Secrets with which callbacks are verified, the newest first.",
        made("CallbackSecret", lambda: {"client": str | None, "secrets": list[str]}),
    ),
    Document(
        "callback-test",
        1,
        "The answer of a receiver of callbacks.",
        made("CallbackTest", lambda: {"url": str, "status": int | None, "error": str | None}),
    ),
    Document("audit-entry", 1, "Who did what, and when.", named("storage.audit:AuditEntry")),
    Document(
        "api-key",
        1,
        "A key of the API; `key`, its text, when it was just made.",
        made(
            "ApiKey",
            lambda: {
                "key": NotRequired[str],
                "prefix": str,
                "grants": list[str] | None,
                "state": str,
                **{
                    name: kind
                    for name, kind in _hints("storage.api_keys:ApiKey").items()
                    if name not in ("grants", "is_live")
                },
            },
        ),
    ),
    Document("profile", 1, "A profile.", made("Profile", lambda: {"id": str, **_hints("profiles:Profile")})),
    Document("settings", 1, "Every setting as text, secrets masked.", lambda: dict[str, str]),
    Document(
        "bench", 1, "Where the time of a run goes, and what bounds its speed.", named("pipeline.bench:BenchReport")
    ),
    Document("finding", 1, "One check of `dpiqa doctor`.", named("cli.system.doctor:Finding")),
    Document(
        "local-status",
        1,
        "What runs on this machine.",
        made(
            "LocalStatus",
            lambda: {
                "running": bool,
                "phase": str,
                "pid": int | None,
                "processes": list[dict[str, Any]],
                **dict.fromkeys(("api_url", "flower_url", "s3_endpoint_url", "bucket"), NotRequired[str]),
            },
        ),
    ),
    Document("stopped", 1, "Whether anything ran.", made("Stopped", lambda: {"stopped": bool})),
    Document(
        "migration", 1, "Versions of the tables.", made("Migration", lambda: {"before": str | None, "now": str | None})
    ),
    Document(
        "schema-version",
        1,
        "The version of the tables, and the one that the program needs.",
        made("SchemaVersion", lambda: {"current": str | None, "needed": str}),
    ),
    Document("rollups", 1, "Batches of results that were counted.", made("Rollups", lambda: {"batches": int})),
    Document(
        "uploaded-file",
        1,
        "A file that was uploaded to S3.",
        made("UploadedFile", lambda: {"file": str, "address": str, "bytes": int}),
    ),
    Document("file", 1, "A file that was made.", made("File", lambda: {"file": str})),
    Document(
        "dataset",
        1,
        "A data set that can be read.",
        made(
            "Dataset",
            lambda: {
                **dict.fromkeys(("name", "title", "label", "split", "note", "terms"), str),
                **dict.fromkeys(("homepage", "citation"), str),
                "images": int | None,
                "worst": _NUMBER_OR_NULL,
                "best": _NUMBER_OR_NULL,
                "groups": Any,
                "layout": list[str],
                "also_read": list[str],
            },
        ),
    ),
    Document(
        "dataset-summary",
        1,
        "Labels and images of a data set.",
        made(
            "DatasetSummary",
            lambda: {
                **dict.fromkeys(("dataset", "labels", "split"), str),
                **dict.fromkeys(("images", "missing", "groups", "groups_on_two_sides"), int),
                "published": int | None,
                "missing_first": list[str],
                "splits": dict[str, int],
                "subsets": dict[str, dict[str, int]],
                "mos": dict[str, float],
                "histogram": list[int],
            },
        ),
    ),
    Document("requirement", 1, "A version of a requirement.", named("storage.requirement_queries:RequirementRow")),
    Document(
        "requirement-pairs",
        1,
        "A version of a requirement with its pairs.",
        named("storage.requirement_queries:RequirementDetail"),
    ),
    Document("model", 1, "A model's card.", made("Model", _card_fields)),
    Document(
        "model-check",
        1,
        "Whether a model's files are unchanged.",
        made("ModelCheck", lambda: {"model": str, "ok": bool, "message": str, "hint": str}),
    ),
    Document(
        "removed-model",
        1,
        "A model that was removed.",
        made("RemovedModel", lambda: {"removed": str, "scorer_id": str}),
    ),
    Document(
        "pulled-part",
        1,
        "A part that was downloaded.",
        made("PulledPart", lambda: {"name": str, "folder": str, "files": list[str]}),
    ),
    Document(
        "available-model", 1, "What `dpiqa models pull` can fetch.", made("AvailableModel", lambda: {"name": str})
    ),
    Document(
        "reference",
        1,
        "How the scores of a model are spread over a population.",
        made(
            "ReferenceOfModel",
            lambda: {"model": str, "bands": dict[str, Any], **_hints("percentiles:Reference")},
        ),
    ),
    Document("prompt", 1, "A prompt of a table: text.", lambda: str),
    Document("prompt-tables", 1, "Tables of prompts by name.", lambda: dict[str, dict[str, Any]]),
    Document(
        "text-embeddings",
        1,
        "Embeddings of prompts.",
        made("TextEmbeddings", lambda: {"file": str, "shape": list[int]}),
    ),
    Document(
        "evaluation",
        1,
        "Figures of a model on data sets.",
        made("Evaluation", lambda: {"model": str, "results": list[dict[str, Any]]}),
    ),
    Document(
        "comparison",
        1,
        "Figures of models against each other.",
        made("Comparison", lambda: {"data": str, "models": dict[str, Any], "parts": dict[str, Any]}),
    ),
    Document(
        "routing-trial",
        1,
        "What a profile's routing gains.",
        made("RoutingTrial", lambda: {"data": str, "profile": str, "improves": Any, "verdict": str}),
    ),
    Document(
        "escalation-trial",
        1,
        "What criteria of escalation gain.",
        made(
            "EscalationTrial",
            lambda: {
                "data": str,
                "profile": str,
                "models": dict[str, str],
                "n": int,
                "cutoffs": list[float],
                "agreement": dict[str, Any],
                "gains": dict[str, Any],
                "cascade_student_share": _NUMBER_OR_NULL,
                "cascade_minus_student": dict[str, Any],
            },
        ),
    ),
    Document(
        "distortion-sweep",
        1,
        "How scores fall with distortions.",
        made("DistortionSweep", lambda: {"model": str, "scorer": str, "images": int}),
    ),
    Document("invariance", 1, "How far scores move under harmless edits.", made("Invariance", lambda: {"model": str})),
)
#: Every document, by its id.
DOCUMENTS: dict[str, Document] = {document.id: document for document in _DOCUMENTS}
