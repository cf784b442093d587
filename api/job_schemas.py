"""What a job may ask for. See `schemas` for the rules."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from .schemas import MAX_KEYS, Bucket, Key, Prefix, ProfileName, RequestBody, RequirementId, Source


def _not_both(schema: dict[str, Any]) -> None:
    """Say in OpenAPI that a profile and a requirement exclude each other."""
    schema["not"] = {"required": ["profile", "requirement"]}


def _either(schema: dict[str, Any]) -> None:
    """Say in OpenAPI what the validator below demands: a bucket, or a source instead of bucket and prefix."""
    schema["oneOf"] = [
        {"required": ["bucket"], "properties": {"source": False}},
        {"required": ["source"], "properties": {"bucket": False, "prefix": False}},
    ]
    _not_both(schema)
    for name in ("bucket", "source"):
        field = schema["properties"][name]
        field.update(next(kind for kind in field.pop("anyOf") if kind.get("type") == "string"))
        field.pop("default", None)


class _Wanted(RequestBody):
    """By what a job's images are to be scored: a profile (the service's own by default), or a requirement alone."""

    profile: ProfileName | None = None
    requirement: RequirementId | None = Field(None, description="Score by this requirement and nothing else.")

    @model_validator(mode="after")
    def _profile_or_requirement(self) -> "_Wanted":
        if {"profile", "requirement"} <= self.model_fields_set:
            raise ValueError("give either `profile` or `requirement`")
        return self


class _Place(_Wanted):
    """A bucket and prefix, given apart or as one `s3://bucket/prefix`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_either)

    bucket: Bucket | None = None
    prefix: Prefix = ""
    source: Source | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "_Place":
        given = self.model_fields_set
        exactly_one = (self.source is None) != (self.bucket is None)
        if not exactly_one or {"source", "bucket"} <= given or {"source", "prefix"} <= given:
            raise ValueError("give either `bucket` (and `prefix`) or `source`: s3://bucket/prefix")
        return self

    def place(self) -> tuple[str, str]:
        """Return bucket and prefix."""
        if self.source is None:
            return self.bucket or "", self.prefix
        bucket, _, prefix = self.source.removeprefix("s3://").partition("/")
        return bucket, prefix


class PrefixJob(_Place):
    """Score every object under a prefix, listed once."""

    kind: Literal["prefix"] = "prefix"


class WatchJob(_Place):
    """Score what arrives in a bucket under a prefix, by its events. Asking twice gives the same job."""

    kind: Literal["watch"]


class ListJob(_Wanted):
    """Score these keys."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_not_both)

    kind: Literal["list"]
    bucket: Bucket
    keys: Annotated[list[Key], Field(min_length=1, max_length=MAX_KEYS)]


def _kind(value: Any) -> str:
    kind = value.get("kind", "prefix") if isinstance(value, dict) else getattr(value, "kind", "prefix")
    return kind if isinstance(kind, str) else "?"


JobRequest = Annotated[
    Annotated[PrefixJob, Tag("prefix")] | Annotated[WatchJob, Tag("watch")] | Annotated[ListJob, Tag("list")],
    Discriminator(_kind),
]
