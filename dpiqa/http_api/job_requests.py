"""Bodies of requests for jobs: one model per kind of source, and the parameters of an uploaded manifest."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from dpiqa.access import Grants
from dpiqa.addresses import BUCKET_PATTERN, S3Address, folder_bucket, split_s3
from dpiqa.http_api.common import (
    MAX_KEYS,
    MAX_PROFILES,
    FitsKey,
    Key,
    Prefix,
    ProfileName,
    RequestBody,
    RequirementId,
    S3Bucket,
    Source,
    Storable,
    Time,
)
from dpiqa.sources.spec import ManifestFormat, SourceSpec

Pattern = Annotated[str, Field(min_length=1, max_length=1024), Storable, FitsKey]
ColumnName = Annotated[str, Field(min_length=1, max_length=255), Storable]
ReportAddress = Annotated[
    str,
    Field(
        max_length=1300,
        pattern=rf"^s3://{BUCKET_PATTERN}/.*[^/]\.(csv|jsonl|parquet)$",
        examples=["s3://reports/2024.parquet"],
    ),
    Storable,
]
CallbackUrl = Annotated[
    str,
    Field(min_length=8, max_length=2000, pattern=r"^https?://[\x21-\x7e]+$", examples=["https://example.org/ended"]),
]
ObjectSource = Annotated[
    str,
    Field(max_length=1300, pattern=f"^s3://{BUCKET_PATTERN}/.*[^/]$", examples=["s3://lists/2024.csv.gz"]),
    Storable,
]


#: Before a kind in places of problems, by which `api.errors` tells it from a field.
KIND = "kind="


def _not_both(schema: dict[str, Any]) -> None:
    """Declare in OpenAPI that a profile, several profiles and a requirement cannot be combined."""
    pairs = (("profile", "profiles"), ("profile", "requirement"), ("profiles", "requirement"))
    schema["not"] = {"anyOf": [{"required": list(pair)} for pair in pairs]}


def _either(schema: dict[str, Any]) -> None:
    """Declare in OpenAPI what the validator below requires: a bucket, or a source instead of bucket and prefix.

    By `if`, which generators of clients pass over: `oneOf` makes them write one type for each branch.
    """
    schema["if"] = {"required": ["source"]}
    schema["then"] = {"not": {"anyOf": [{"required": ["bucket"]}, {"required": ["prefix"]}]}}
    schema["else"] = {"required": ["bucket"]}
    _not_both(schema)
    for name in ("bucket", "source"):
        field = schema["properties"][name]
        field.update(next(option for option in field.pop("anyOf") if option.get("type") == "string"))
        field.pop("default", None)


class ScoringRequest(RequestBody):
    """A profile to score images by (the service's own by default), or a requirement alone."""

    profile: ProfileName | None = None
    profiles: Annotated[list[ProfileName], Field(min_length=1, max_length=MAX_PROFILES)] | None = Field(
        None, description="Several profiles instead of one. Each image is read once and scored under each of them."
    )
    requirement: RequirementId | None = Field(None, description="Score by this requirement and nothing else.")

    @model_validator(mode="after")
    def _profile_or_requirement(self) -> "ScoringRequest":
        if len({"profile", "profiles", "requirement"} & self.model_fields_set) > 1:
            raise ValueError("must have only one of `profile`, `profiles` and `requirement`")
        return self

    @property
    def profile_names(self) -> list[str | None]:
        """The profiles that are named; None stands for the service's own."""
        return list(self.profiles) if self.profiles else [self.profile]


class PrefixRequest(ScoringRequest):
    """A bucket and prefix, as two fields or as one `s3://bucket/prefix`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_either)

    bucket: S3Bucket | None = None
    prefix: Prefix = ""
    source: Source | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "PrefixRequest":
        names = self.model_fields_set
        exactly_one = (self.source is None) != (self.bucket is None)
        if not exactly_one or {"source", "bucket"} <= names or {"source", "prefix"} <= names:
            raise ValueError("must have either `bucket` (and `prefix`) or `source`: s3://bucket/prefix")
        return self

    @property
    def address(self) -> S3Address:
        """The bucket and the prefix."""
        return S3Address(self.bucket or "", self.prefix) if self.source is None else split_s3(self.source)


DETAILS = "Also measure each picture (`docs/measures.md`); about 3 ms of processor time each."


class PlannedRequest(RequestBody):
    """When the job pauses by itself, where its report goes, and whether its pictures are measured."""

    auto_pause: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the first 1,000 images above which the job pauses by itself when they cannot be scored; "
        "1: never; null: DPIQA_AUTO_PAUSE_SHARE.",
    )
    report: ReportAddress | None = Field(None, description="Where a worker writes a report when the job has ended.")
    callback: CallbackUrl | None = Field(
        None, description="URL that is told when the job has ended, by a signed webhook (`docs/callbacks.md`)."
    )
    report_failures: bool = Field(default=False, description="The report holds only images that ended unscored.")
    details: bool = Field(default=False, description=DETAILS)

    def check_report(self, grants: Grants) -> None:
        """Raise `NotFound` for a report that would be written beyond the grants."""
        if self.report is not None:
            grants.require_address(self.report)


class _Filters(RequestBody):
    """Rules that decide which objects of a source become items. All are counted in `tally.passed_over`."""

    include: list[Pattern] = Field([], max_length=100, description="Only keys that match one of these globs.")
    exclude: list[Pattern] = Field([], max_length=100, description="No key that matches one of these globs.")
    all_names: Annotated[
        bool, Field(description="Also what by its name is not an image, such as `.txt`, `.mp4`, `Thumbs.db`.")
    ] = False
    since: Time | None = Field(None, description="Only what was last modified at this time or later.")
    limit: Annotated[int, Field(ge=1, lt=2**63)] | None = Field(None, description="The first so many objects.")
    sample: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(None, description="So many, chosen at random.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Of the sample.")

    @property
    def spec(self) -> SourceSpec:
        """The filters, and what a subclass adds."""
        return SourceSpec.model_validate(self.model_dump(include=set(SourceSpec.model_fields)))


class _ManifestOptions(_Filters):
    """The meaning of the rows of a manifest."""

    bucket: S3Bucket | None = Field(None, description="Of keys whose row names no bucket.")
    format: ManifestFormat | None = Field(None, description="Found by itself, by name and content.")
    columns: list[ColumnName] = Field([], max_length=100, description="Of a CSV without a header.")
    url_encoded: Annotated[bool, Field(description="Keys are URL-encoded, as S3 Batch Operations writes them.")] = False
    max_malformed: Annotated[float, Field(ge=0, le=1)] = Field(0.01, description="Share of rows that are skipped.")


class PrefixJob(PrefixRequest, _Filters, PlannedRequest):
    """Score every object under a prefix, listed once."""

    kind: Literal["prefix"] = "prefix"

    def check(self, grants: Grants) -> None:
        """Raise `NotFound` for what is beyond the grants: nothing is said about whether it exists."""
        grants.require(self.address.bucket, self.address.key)
        self.check_report(grants)


class WatchJob(PrefixRequest):
    """Score the objects that arrive in a bucket under a prefix, by its events. A second request gives the same job."""

    kind: Literal["watch"]
    details: bool = Field(default=False, description=DETAILS)

    def check(self, grants: Grants) -> None:
        """Raise `NotFound` for what is beyond the grants."""
        grants.require(self.address.bucket, self.address.key)

    @property
    def spec(self) -> SourceSpec:
        """No filters."""
        return SourceSpec(all_names=True)


class ListJob(ScoringRequest, PlannedRequest):
    """Score these keys."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_not_both)

    kind: Literal["list"]
    bucket: S3Bucket
    keys: Annotated[list[Key], Field(min_length=1, max_length=MAX_KEYS)]

    def check(self, grants: Grants) -> None:
        """Raise `NotFound` for the first key that is beyond the grants."""
        for key in self.keys:
            grants.require(self.bucket, key)
        self.check_report(grants)

    @property
    def address(self) -> S3Address:
        """The bucket, with an empty prefix."""
        return S3Address(self.bucket, "")

    @property
    def spec(self) -> SourceSpec:
        """No filters: each key is named."""
        return SourceSpec(all_names=True)


class ManifestJob(ScoringRequest, _ManifestOptions, PlannedRequest):
    """Score the objects that a manifest in S3 names: CSV, JSON lines, Parquet, ORC, or lines of keys."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_not_both)

    kind: Literal["manifest"]
    source: ObjectSource

    def check(self, grants: Grants) -> None:
        """Raise `NotFound` for a manifest beyond the grants. Its rows beyond them are passed over."""
        grants.require_address(self.source)
        self.check_report(grants)

    @property
    def address(self) -> S3Address:
        """The bucket of keys without one."""
        return S3Address(self.bucket or "", "")

    @property
    def spec(self) -> SourceSpec:
        """The address of the manifest, its options and the filters."""
        return super().spec.model_copy(update={"address": self.source})


class InventoryJob(ScoringRequest, _Filters, PlannedRequest):
    """Score the objects of an S3 Inventory."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_not_both)

    kind: Literal["inventory"]
    source: Annotated[ObjectSource, Field(description="Its manifest.json.")]
    bucket: S3Bucket | None = Field(None, description="The bucket that it must be an inventory of.")
    prefix: Prefix = ""

    def check(self, grants: Grants) -> None:
        """Raise `NotFound` for an inventory beyond the grants. Its rows beyond them are passed over."""
        grants.require_address(self.source)
        self.check_report(grants)

    @property
    def address(self) -> S3Address:
        """The bucket, if it is named, and the prefix."""
        return S3Address(self.bucket or "", self.prefix)

    @property
    def spec(self) -> SourceSpec:
        """The address of the inventory and the filters."""
        return super().spec.model_copy(update={"address": self.source})


class FolderJob(ScoringRequest, _Filters, PlannedRequest):
    """Score the files below a folder of the workers' machine, in place. Only below the folders that it allows."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_not_both)

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^/", examples=["/srv/photos"]), Storable] = (
        Field(description="Absolute path.")
    )

    def check(self, grants: Grants) -> None:
        """Raise `NotFound` for a folder beyond the grants."""
        grants.require(self.address.bucket)
        self.check_report(grants)

    @property
    def address(self) -> S3Address:
        """The bucket that stands for the folder."""
        return S3Address(folder_bucket(Path(self.path)), "")


def _kind(value: Any) -> str:
    kind = value.get("kind", "prefix") if isinstance(value, dict) else getattr(value, "kind", "prefix")
    return f"{KIND}{kind}"


JobRequest = Annotated[
    Annotated[PrefixJob, Tag(f"{KIND}prefix")]
    | Annotated[WatchJob, Tag(f"{KIND}watch")]
    | Annotated[ListJob, Tag(f"{KIND}list")]
    | Annotated[ManifestJob, Tag(f"{KIND}manifest")]
    | Annotated[InventoryJob, Tag(f"{KIND}inventory")]
    | Annotated[FolderJob, Tag(f"{KIND}folder")],
    Discriminator(_kind),
]


class ManifestParameters(ScoringRequest, _ManifestOptions, PlannedRequest):
    """Parameters of an uploaded manifest. Lists are given by repeating the parameter."""

    name: Annotated[str, Field(min_length=1, max_length=255), Storable] = Field(
        "manifest", description="Its file name, which jobs show; its extension says the format.", examples=["keys.csv"]
    )

    @property
    def spec(self) -> SourceSpec:
        """The name of the manifest, its options and the filters."""
        return super().spec.model_copy(update={"address": self.name})
