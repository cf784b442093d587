"""A client of the HTTP API for Python programs: `dpiqa.Client`. Its methods are the operations of the document."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

import httpx

from dpiqa.http_api import cutoffs, explanations, jobs, requirements, scores, stats, watches
from dpiqa.http_api.audit import AuditEntryOut, AuditEntryPage
from dpiqa.http_api.common import Alive, EventsAccepted, ItemOut, ItemPage, Ready, RequestBody
from dpiqa.http_api.connection import Connection, new_key, quoted, read_body

Format = Literal["csv", "jsonl", "parquet"]
JsonBody = RequestBody | Mapping[str, Any]


class ScoreFilters(TypedDict, total=False):
    """Filters of scores, as `GET /v1/scores` takes them."""

    bucket: str
    prefix: str
    suffix: str
    min: float
    max: float
    profile: str
    requirement: str
    since: datetime | str
    until: datetime | str
    job: str
    model: str
    status: Literal["provisional", "final"]
    route: Literal["clear", "borderline", "budget_spent", "no_teacher"]
    band: list[Literal["bad", "poor", "fair", "good", "excellent"]]
    sort: Literal["score", "-score", "updated", "-updated"]
    worst: str
    best: str


class Client:
    """The HTTP API of a service. A context manager, or `close`; may be used by several threads.

    Methods have the names of the operations at `/docs`, and return the bodies that are described there as objects with
    typed fields. Lists are iterators, which ask for the next page when it is needed.

    Every method raises:
        NotFound: What is named does not exist, or is beyond the key's grants.
        InvalidRequest: A value does not fit; the message names the field. `Conflict`: it contradicts what is stored.
        Forbidden: The key is wrong, or does not permit this.
        LimitExceeded: The key has, or sends, more than it may.
        Unavailable: The service, or a part that it needs, does not answer. Requests that may be repeated were.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: Address of the API, with its prefix if it has one.
            key: API key, where the service demands one.
            timeout: Seconds to wait for an answer.
            transport: Instead of the network: a proxy, or a stub in tests.

        Example:
            >>> import dpiqa
            >>> with dpiqa.Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
            ...     job = client.submit_job("s3://photos/2024/")
            ...     for status in client.follow_job(job.id):
            ...         print(status.done, status.total)
            ...     for row in client.list_scores(bucket="photos", worst="5%"):
            ...         print(row.key, row.score)
        """
        self._http = Connection(url.rstrip("/"), key, timeout, transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # jobs

    def submit_job(self, job: str | JsonBody, *, idempotency_key: str | None = None) -> jobs.JobAccepted:
        """Submit a job.

        Args:
            job: `s3://bucket/prefix`; or a body of `POST /v1/jobs`, as a mapping or a model of
                `dpiqa.http_api.job_requests`.
            idempotency_key: The same request with the same key gives the same job. Unless given, a new one, so that
                the request can be repeated while the service does not answer.

        Returns:
            The job as it was recorded; `warning` is set where it will start later.
        """
        body = {"source": job} if isinstance(job, str) else job
        return self._http.read(jobs.JobAccepted, "POST", "/v1/jobs", body=body, key=idempotency_key or new_key())

    def submit_manifest(
        self, manifest: str | PathLike[str] | bytes, *, idempotency_key: str | None = None, **parameters: Any
    ) -> jobs.JobAccepted:
        """Upload a manifest, a file or its bytes, and submit the objects that it names.

        `parameters`: those of `POST /v1/jobs/manifest`; the name of a file is its `name` unless given.
        """
        if not isinstance(manifest, bytes):
            parameters.setdefault("name", Path(manifest).name)
            manifest = Path(manifest).read_bytes()
        return self._http.read(
            jobs.JobAccepted,
            "POST",
            "/v1/jobs/manifest",
            query=parameters,
            content=manifest,
            headers={"Content-Type": "application/octet-stream"},
            key=idempotency_key or new_key(),
        )

    def list_jobs(
        self,
        *,
        state: list[str] | None = None,
        kind: str | None = None,
        bucket: str | None = None,
        created_since: datetime | str | None = None,
        created_before: datetime | str | None = None,
        limit: int | None = None,
    ) -> Iterator[jobs.JobOut]:
        """Yield jobs, the newest first; all of them, or `limit`."""
        query = {
            "state": state,
            "kind": kind,
            "bucket": bucket,
            "created_since": created_since,
            "created_before": created_before,
        }
        for page in self._http.pages(jobs.JobPage, "/v1/jobs", query, limit):
            yield from page.items

    def get_job(self, job_id: object) -> jobs.JobStatus:
        """Return a job and its progress. `job_id`: the id, the first 6 or more digits of it, or `latest`."""
        return self._http.read(jobs.JobStatus, "GET", f"/v1/jobs/{quoted(job_id)}")

    def follow_job(self, job_id: object) -> Iterator[jobs.JobStatus]:
        """Yield the progress of a job whenever it changes, until the job ends; the last one says how."""
        for _, data in self._http.events(f"/v1/jobs/{quoted(job_id)}/events"):
            yield read_body(jobs.JobStatus, data)

    def list_job_items(
        self, job_id: object, *, state: str | None = None, reason: str | None = None, limit: int | None = None
    ) -> Iterator[ItemOut]:
        """Yield the images of a job; all of them, or `limit`."""
        path, query = f"/v1/jobs/{quoted(job_id)}/items", {"state": state, "reason": reason}
        for page in self._http.pages(ItemPage, path, query, limit):
            yield from page.items

    def get_job_report(
        self,
        job_id: object,
        output: str | PathLike[str],
        *,
        format: Format = "csv",  # noqa: A002 - its name
        failures: bool = False,
    ) -> Path:
        """Write the images of a job, or only those that ended unscored, into a file. Returns its path."""
        query = {"format": format, "failures": failures}
        return self._http.download(f"/v1/jobs/{quoted(job_id)}/report", query, Path(output))

    def pause_job(self, job_id: object) -> jobs.JobStatus:
        """Pause a job: nothing more of it is listed or started."""
        return self._http.read(jobs.JobStatus, "POST", f"/v1/jobs/{quoted(job_id)}/pause")

    def resume_job(self, job_id: object) -> jobs.JobStatus:
        """Resume a paused job where it was."""
        return self._http.read(jobs.JobStatus, "POST", f"/v1/jobs/{quoted(job_id)}/resume")

    def cancel_job(self, job_id: object) -> jobs.JobStatus:
        """End a job now, or a watch. What has been scored stays."""
        return self._http.read(jobs.JobStatus, "POST", f"/v1/jobs/{quoted(job_id)}/cancel")

    def retry_job(
        self, job_id: object, *, states: list[jobs.RetryState] | None = None, reasons: list[str] | None = None
    ) -> jobs.JobRetried:
        """Open items again that ended unscored: all, or those of these states and reasons."""
        body = {"states": states or [], "reasons": reasons or []}
        return self._http.read(jobs.JobRetried, "POST", f"/v1/jobs/{quoted(job_id)}/retry", body=body)

    def change_job(self, job_id: object, *, priority: int) -> jobs.JobStatus:
        """Change a job's priority, -10 to 10: each step up doubles its share of the workers."""
        return self._http.read(jobs.JobStatus, "PATCH", f"/v1/jobs/{quoted(job_id)}", body={"priority": priority})

    def delete_job(self, job_id: object, *, force: bool = False) -> None:
        """Delete a job that has ended, and its items. Its results and scores stay."""
        self._http.send("DELETE", f"/v1/jobs/{quoted(job_id)}", query={"force": force})

    # scores

    def list_scores(self, *, limit: int | None = None, **filters: Unpack[ScoreFilters]) -> Iterator[scores.ScoreOut]:
        """Yield the scores that count, worst first unless `sort` says otherwise; all of them, or `limit`."""
        for page in self._http.pages(scores.ScorePage, "/v1/scores", filters, limit):
            yield from page.items

    def export_scores(
        self,
        output: str | PathLike[str],
        *,
        format: Format = "csv",  # noqa: A002 - its name
        details: bool = False,
        **filters: Unpack[ScoreFilters],
    ) -> Path:
        """Write the scores that the filters choose into a file. Returns its path.

        `details`: also the measures of the pictures, where a job asked for them.
        """
        query = {**filters, "format": format, "details": details}
        return self._http.download("/v1/scores/export", query, Path(output))

    def lookup_image(self, bucket: str, key: str) -> scores.ImageScores:
        """Return every score of one image, those that count, and how it ended in each job."""
        return self._http.read(scores.ImageScores, "GET", "/v1/scores/lookup", query={"bucket": bucket, "key": key})

    def get_stats(self, **parameters: Any) -> stats.StatsOut:
        """Return counts, quantiles and the histogram of scores. `parameters`: those of `GET /v1/stats`."""
        return self._http.read(stats.StatsOut, "GET", "/v1/stats", query=parameters)

    # explanations

    def request_explanation(
        self, bucket: str, key: str, profile: str | None = None
    ) -> explanations.ExplanationAccepted:
        """Ask which regions of an image move its score by the student of a profile, or of the service's own."""
        body = {"bucket": bucket, "key": key, "profile": profile}
        return self._http.read(explanations.ExplanationAccepted, "POST", "/v1/explanations", body=body)

    def get_explanation(self, bucket: str, key: str, **parameters: Any) -> explanations.ExplanationOut:
        """Return the regions of an image that move its score. `parameters`: `profile`. Raises as the other calls."""
        query = {"bucket": bucket, "key": key, **parameters}
        return self._http.read(explanations.ExplanationOut, "GET", "/v1/explanations", query=query)

    # cut-offs

    def get_threshold(self, **parameters: Any) -> cutoffs.ThresholdOut:
        """Return what a cut-off rejects, and how well by labels. `parameters`: those of `GET /v1/threshold`."""
        return self._http.read(cutoffs.ThresholdOut, "GET", "/v1/threshold", query=parameters)

    def sample_scores(self, **parameters: Any) -> cutoffs.SampleOut:
        """Return scores drawn at random. `parameters`: those of `GET /v1/scores/sample`."""
        return self._http.read(cutoffs.SampleOut, "GET", "/v1/scores/sample", query=parameters)

    def compare_profiles(self, profile: str, second: str | None = None, **parameters: Any) -> cutoffs.ComparisonOut:
        """Return two profiles on the same images. `parameters`: the others of `GET /v1/comparison`.

        Without `second`, the student and the teacher of the profile are compared.
        """
        sides = {"teacher": True} if second is None else {"second": second}
        query = {"profile": profile, **sides, **parameters}
        return self._http.read(cutoffs.ComparisonOut, "GET", "/v1/comparison", query=query)

    def save_labels(self, labels: JsonBody) -> cutoffs.LabelsSaved:
        """Store verdicts about images: all or none. `labels`: the body of `PUT /v1/labels`."""
        return self._http.read(cutoffs.LabelsSaved, "PUT", "/v1/labels", body=labels)

    def list_labels(self, *, limit: int | None = None, **filters: str) -> Iterator[cutoffs.LabelOut]:
        """Yield the labels of a set; all of them, or `limit`. `filters`: `label_set`, `bucket`, `prefix`."""
        for page in self._http.pages(cutoffs.LabelPage, "/v1/labels", filters, limit):
            yield from page.items

    def export_labels(self, output: str | PathLike[str], *, format: Format = "csv", **filters: str) -> Path:  # noqa: A002
        """Write the labels of a set into a file. `filters`: as in `list_labels`. Returns its path."""
        return self._http.download("/v1/labels/export", {**filters, "format": format}, Path(output))

    def save_profile(self, profile: JsonBody) -> cutoffs.SavedProfile:
        """Store the models of a profile with a cut-off of its own. `profile`: the body of `POST /v1/profiles`."""
        return self._http.read(cutoffs.SavedProfile, "POST", "/v1/profiles", body=profile)

    # what scored

    def list_scorers(self) -> list[stats.ScorerOut]:
        """Return the scorers that have scored, the newest first."""
        return self._http.read(stats.Scorers, "GET", "/v1/models").items

    def get_scorer(self, scorer_id: str) -> stats.ScorerCard:
        """Return a scorer's model card."""
        return self._http.read(stats.ScorerCard, "GET", f"/v1/models/{quoted(scorer_id)}")

    def list_profiles(self) -> list[stats.ProfileOut]:
        """Return the profiles that jobs used, the newest first."""
        return self._http.read(stats.Profiles, "GET", "/v1/profiles").items

    def list_workers(self) -> list[stats.WorkerOut]:
        """Return the live workers."""
        return self._http.read(stats.Workers, "GET", "/v1/workers").items

    # requirements, watches, reconciliations

    def submit_requirement(self, requirement: JsonBody) -> requirements.RequirementAccepted:
        """Submit image-score pairs as the next version of a name."""
        return self._http.read(requirements.RequirementAccepted, "POST", "/v1/requirements", body=requirement)

    def list_requirements(self, *, limit: int | None = None) -> Iterator[requirements.RequirementOut]:
        """Yield all versions of all requirements, by name; or `limit`."""
        for page in self._http.pages(requirements.RequirementPage, "/v1/requirements", {}, limit):
            yield from page.items

    def get_requirement(self, requirement: str) -> requirements.RequirementDetail:
        """Return a requirement and its pairs: `name@version`, or `name` for the newest."""
        return self._http.read(requirements.RequirementDetail, "GET", f"/v1/requirements/{quoted(requirement)}")

    def add_watch(self, watch: str | JsonBody) -> watches.WatchAccepted:
        """Score what arrives under a prefix from now on: `s3://bucket/prefix`, or a body of `POST /v1/watches`."""
        body = {"source": watch} if isinstance(watch, str) else watch
        return self._http.read(watches.WatchAccepted, "POST", "/v1/watches", body=body)

    def list_watches(self, *, ended: bool = False) -> list[watches.WatchOut]:
        """Return the watches."""
        return self._http.read(list[watches.WatchOut], "GET", "/v1/watches", query={"ended": ended})

    def get_watch(self, job_id: object) -> watches.WatchOut:
        """Return a watch: its events, its back-fill and its schedule."""
        return self._http.read(watches.WatchOut, "GET", f"/v1/watches/{quoted(job_id)}")

    def end_watch(self, job_id: object) -> watches.WatchOut:
        """End a watch; scores and results stay."""
        return self._http.read(watches.WatchOut, "DELETE", f"/v1/watches/{quoted(job_id)}")

    def request_reconciliation(self, request: str | JsonBody) -> watches.ReconciliationAccepted:
        """Compare a bucket with the ledger: `s3://bucket/prefix`, or a body of `POST /v1/reconciliations`."""
        body = {"source": request} if isinstance(request, str) else request
        return self._http.read(watches.ReconciliationAccepted, "POST", "/v1/reconciliations", body=body)

    def list_reconciliations(
        self, *, bucket: str | None = None, prefix: str | None = None, limit: int | None = None
    ) -> Iterator[watches.ReconciliationOut]:
        """Yield stored reports, the newest first; all of them, or `limit`."""
        query = {"bucket": bucket, "prefix": prefix}
        for page in self._http.pages(watches.ReconciliationPage, "/v1/reconciliations", query, limit):
            yield from page.items

    def get_reconciliation(self, reconciliation: object) -> watches.ReconciliationOut:
        """Return a report."""
        return self._http.read(watches.ReconciliationOut, "GET", f"/v1/reconciliations/{quoted(reconciliation)}")

    # events, audit, health

    def send_events(self, body: Mapping[str, Any]) -> EventsAccepted:
        """Pass on the body of a storage event."""
        return self._http.read(EventsAccepted, "POST", "/v1/events", body=body)

    def list_audit(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        limit: int | None = None,
    ) -> Iterator[AuditEntryOut]:
        """Yield who did what, the newest first; all of it, or `limit` entries."""
        query = {"since": since, "until": until, "actor": actor, "action": action, "subject": subject}
        for page in self._http.pages(AuditEntryPage, "/v1/audit", query, limit):
            yield from page.items

    def get_health(self) -> Alive:
        """Return that the process answers."""
        return self._http.read(Alive, "GET", "/healthz")

    def get_readiness(self) -> Ready:
        """Return that every part that the service needs answers. Raises `Unavailable` where one does not."""
        return self._http.read(Ready, "GET", "/readyz", retries=0)

    def get_metrics(self) -> str:
        """Return the metrics as Prometheus reads them."""
        return self._http.send("GET", "/metrics").text
