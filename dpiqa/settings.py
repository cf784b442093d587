"""All settings: `DPIQA_…` variables, `.env`, and the connection file of `dpiqa local up`.

Order, the first that has a value wins: arguments of `load_settings`, environment, `.env`, AWS's names
(`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL_SQS`, `AWS_REGION`, `AWS_DEFAULT_REGION`), the connection file, defaults. S3
credentials come from AWS's own chain; only those of the embedded stack are settings.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_cache_path, user_data_path, user_state_path
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dpiqa.broker_url import BrokerKind, BrokerUrl, read_broker_url
from dpiqa.connection_file import read_live_connection
from dpiqa.errors import ConfigurationError
from dpiqa.files import expanded
from dpiqa.text import first_field_error
from dpiqa.types import Backend, Stage
from dpiqa.urls import mask_url, normalise_database_url

MIB = 1024 * 1024
PREFIX = "DPIQA_"
#: AWS's own names of some settings; the earlier name wins.
AWS_NAMES: dict[str, tuple[str, ...]] = {
    "s3_endpoint_url": ("AWS_ENDPOINT_URL_S3",),
    "sqs_endpoint_url": ("AWS_ENDPOINT_URL_SQS",),
    "aws_region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}


def default_home() -> Path:
    """Return the folder of `dpiqa local`'s state, unless `DPIQA_HOME` names another."""
    return user_state_path("dpiqa")


def default_models_dir() -> Path:
    """Return the folder of imported and pulled models, unless `DPIQA_MODELS_DIR` names another."""
    return user_data_path("dpiqa") / "models"


def _default_api_url(values: Mapping[str, Any]) -> str:
    host = values.get("api_host", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{values.get('api_port', 8000)}"


class Settings(BaseSettings):
    """Every setting of every process. Immutable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    # The text below each field is its description in `docs/configuration.md`.

    database_url: SecretStr | None = None
    """URL of Postgres, as `psql` reads it: `postgresql://user:password@host:5432/database`"""
    database_schema: str | None = Field(None, max_length=63)
    """schema of the tables; None: the first one of the search path that the user has, mostly `public`"""
    database_seconds: float = Field(30, ge=1)
    """seconds after which Postgres cancels a statement; five later a connection without an answer is given up"""
    broker_url: SecretStr | None = None
    """URL of Redis or Valkey, RabbitMQ or SQS; [brokers.md](brokers.md)"""
    s3_endpoint_url: str | None = None
    """address of an S3 server; None: AWS"""
    sqs_endpoint_url: str | None = None
    """address of an SQS server; None: AWS"""
    s3_addressing_style: Literal["auto", "path", "virtual"] | None = None
    """place of the bucket in addresses: `path` (host/bucket), `virtual` (bucket.host); None: `path`, on AWS `auto`"""
    s3_requester_pays: bool = False
    """whether requests to S3 accept the costs of buckets whose owner lets the requester pay"""
    s3_anonymous: bool = False
    """whether requests to S3 are sent without credentials, for buckets that anybody may read"""
    aws_region: str = "us-east-1"
    """AWS region"""
    aws_access_key_id: SecretStr | None = None
    """credentials of the embedded S3; None: AWS's own chain"""
    aws_secret_access_key: SecretStr | None = None
    """secret key of these credentials"""
    queue_url: str | None = None
    """SQS queue that the listener reads"""

    folders: str = ""
    """folders that workers may read in place, separated by `:`, with all below them; none: only S3"""
    confirm_objects: int = Field(100_000, ge=0)
    """objects from which on `dpiqa submit` asks before it submits, or wants `--yes`"""
    max_manifest_bytes: int = Field(4 * 1024 * MIB, ge=1)
    """bytes of a manifest that is uploaded to the API"""

    profile: str = "default"
    """profile of jobs that name none"""
    models_dir: Path = Field(default_factory=default_models_dir)
    """folder of imported and pulled models"""
    hub_url: str | None = None
    """the Hugging Face hub or a mirror of it; None: `HF_ENDPOINT`, then `https://huggingface.co`"""
    drive_url: str = "https://drive.usercontent.google.com"
    """server that files on Google Drive are downloaded from"""
    accepted_licences: str = ""
    """licences of plug-ins' models that you accept, space-separated, where `dpiqa models pull` did not ask: workers"""
    profiles_dir: Path | None = None
    """folder with profiles beside the built-in ones"""

    api_host: str = "127.0.0.1"
    """address that the API listens on"""
    api_port: int = Field(8000, ge=0, le=65535)
    """TCP port of the API"""
    api_key: SecretStr | None = None
    """bootstrap key of the API, which may do everything; required off loopback, or `require_key`"""
    require_key: bool = False
    """whether the API demands a key without `api_key`, on loopback too: those of `dpiqa keys create`"""
    requests_per_minute: int = Field(6000, ge=1)
    """requests per minute of one stored key that an API process answers, unless the key has a number of its own"""
    max_open_jobs: int = Field(100, ge=1)
    """jobs of one stored key that have not ended, unless the key has a number of its own"""
    max_waiting_items: int = Field(50_000_000, ge=1)
    """items of all jobs that wait, from which on the API accepts no more jobs; events are always accepted"""
    session_secret: SecretStr | None = Field(None, min_length=32)
    """signs the sessions of the pages; None: one of each API process, whose sessions end with it"""
    session_hours: float = Field(12, gt=0, le=720)
    """hours after which a key must be entered in the pages again"""
    thumbnail_cache_bytes: int = Field(256 * 1024 * 1024, ge=0)
    """bytes of thumbnails that an API process keeps on disk; 0: none"""
    thumbnail_url: str | None = None
    """address of thumbnails on an image server of yours, with `{bucket}`, `{key}` and `{side}`; None: made here"""
    verify_events: bool = True
    """whether objects that events of `POST /v1/events` name are looked up in the store, instead of trusted"""
    callback_secret: SecretStr | None = None
    """`whsec_...` that signs callbacks of jobs; two with a space while receivers change over; None: no callbacks"""
    callback_hosts: str = ""
    """hosts that callbacks may go to, space-separated: names, `*.name`, addresses, networks; empty: public, by https"""
    api_hosts: str = ""
    """additional host names, space-separated, for callers of an API without a key; loopback names always work"""
    api_root_path: str = ""
    """path of the API behind a proxy, such as `/dpiqa`, whether the proxy strips it or passes it on"""
    api_trusted_proxies: str = ""
    """addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, space-separated"""
    api_cors_origins: str = ""
    """origins of web pages that may call the API from a browser, space-separated; `*`: any, only with a key"""
    api_url: str = Field(default_factory=_default_api_url)
    """URL of the API for clients; by default made of `api_host` and `api_port`"""
    flower_host: str = "127.0.0.1"
    """address that Flower listens on"""
    flower_port: int = Field(5555, ge=0, le=65535)
    """TCP port of Flower"""
    flower_basic_auth: SecretStr | None = None
    """`user:password` that Flower demands; None: a new one at each start"""
    auto_pause_share: float = Field(0.5, ge=0, le=1)
    """share of the first 1,000 images of a job above which it pauses by itself when they cannot be scored; 1: never"""
    auto_watch: bool = True
    """whether an event that no watch covers starts a watch of its bucket, unless a removed one covered it"""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`; for `dpiqa worker` also several, separated by commas: a process each"""
    backend: Backend = Backend.EAGER
    """library that computes students: `auto`, `eager`, `compile`, `openvino`, `onnxruntime`; [models.md](models.md)"""
    cache_dir: Path = Field(default_factory=lambda: user_cache_path("dpiqa"))
    """folder of what backends compiled, for the next start; only this user may be able to write there"""
    device_memory_share: float | None = Field(None, gt=0, le=1)
    """share (0-1) of a GPU's memory for a process, where a student and a teacher share one; empty: all of it"""
    threads: int | None = Field(None, ge=1)
    """torch threads of one worker; None: torch decides"""
    batch_size: int | None = Field(None, ge=1)
    """images per batch of a small network (kinds student, onnx, pixels); empty: 16, on a CPU one per thread, 4 to 16"""
    teacher_batch_size: int = Field(4, ge=1)
    """images per batch of a large network: kinds teacher, promptiqa"""
    fetch_threads: int = Field(16, ge=1)
    """threads that fetch objects, per worker"""
    reuse_bytes: bool = True
    """whether workers compare the SHA-256 of bytes, and take the score of the same bytes under another key"""
    decode_processes: int = Field(default_factory=lambda: min(4, os.cpu_count() or 1), ge=1)
    """processes that decode images, per worker"""

    worker_stage: Stage = Stage.STUDENT
    """`student` or `teacher`: the model that a worker process holds; `dpiqa worker STAGE` sets it"""
    metrics_port: int | None = Field(None, ge=1, le=65535)
    """TCP port on which a worker or listener serves Prometheus metrics; None: none"""

    lease_seconds: float = Field(60, gt=0)
    """seconds after which an item of a silent worker may be claimed by another"""
    sweep_seconds: float = Field(30, gt=0)
    """seconds between sweeps for work that no worker took"""
    rering_seconds: float = Field(60, gt=0)
    """seconds after which an unanswered announcement is repeated if its queue is empty; else ten times as long"""
    window_items: int = Field(4096, ge=1)
    """announced and unclaimed items per queue, shared by its open jobs; bounds the broker's memory"""
    chunk_items: int = Field(256, ge=1)
    """items per message, at most; 32 for events, for a new job, and where a model needs seconds for so many"""
    prune_items_after_days: float | None = Field(None, gt=0)
    """days after which workers remove the items of jobs that ended, and what ended of watches; empty: never"""
    audit_days: float = Field(365, gt=0)
    """days that entries of the audit are kept"""
    max_crashes: int = Field(3, ge=1)
    """worker crashes after which an item is given up"""
    max_errors: int = Field(5, ge=1)
    """errors that are not the image's fault after which an item is given up"""

    max_image_bytes: int = Field(64 * MIB, ge=1)
    """bytes; larger objects are rejected"""
    max_image_pixels: int = Field(50_000_000, ge=1)
    """pixels; larger images are rejected"""
    max_panorama_pixels: int = Field(0, ge=0)
    """pixels up to which a larger JPEG is decoded at a reduced scale, for a scorer of its own; 0: none is"""
    reduced_jpegs: bool = False
    """whether every JPEG of at least 2,048 pixels a side is decoded at a reduced scale, for a scorer of its own"""
    raw_previews: bool = False
    """whether camera raw files are scored by their largest embedded preview, for a scorer of its own (extra `raw`)"""
    max_image_side: int = Field(16_384, ge=1)
    """pixels; images with a longer side are rejected"""
    decode_seconds: float = Field(10, gt=0)
    """seconds of processor time; decoding is stopped after that, and the image rejected"""
    decode_wall_seconds: float = Field(120, gt=0)
    """seconds on the clock; decoding is stopped after that, and tried again unless it hung by itself"""
    decode_memory_bytes: int = Field(608 * MIB, ge=64 * MIB)
    """bytes of memory that decoding one image may add to its process"""
    decode_sandbox: Literal["auto", "require", "off"] = "auto"
    """sandbox of decode processes: `auto`: what the kernel has; `require`: workers do not start without; `off`"""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """minimum log level"""
    log_json: bool = False
    """log lines as JSON"""
    home: Path = Field(default_factory=default_home)
    """state folder of `dpiqa local`"""

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: ValidationInfo) -> Any:
        """Take an empty variable as the default, also against the connection file: `DPIQA_S3_ENDPOINT_URL=` is AWS."""
        if value != "" or info.field_name is None:
            return value
        return cls.model_fields[info.field_name].get_default(call_default_factory=True, validated_data=info.data)

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url", mode="after")
    @classmethod
    def _normalise(cls, value: SecretStr | None) -> SecretStr | None:
        """Normalise the scheme. Raises `ConfigurationError` for a URL that libpq would refuse, without quoting it."""
        if value is None:
            return None
        from dpiqa.database_url import connection_parameters  # noqa: PLC0415 - imports the driver of Postgres

        url = normalise_database_url(value.get_secret_value())
        connection_parameters(url, PREFIX)
        return SecretStr(url)

    @field_validator("broker_url", mode="after")
    @classmethod
    def _readable(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            read_broker_url(value.get_secret_value())
        return value

    @field_validator("api_root_path", mode="after")
    @classmethod
    def _root_path(cls, value: str) -> str:
        path = "/".join(part for part in value.split("/") if part)
        if any(char in path for char in "?#% \\") or ".." in path.split("/"):
            raise ValueError("is not a path; it looks like /dpiqa")
        return f"/{path}" if path else ""

    @field_validator("api_cors_origins", mode="after")
    @classmethod
    def _origins(cls, value: str) -> str:
        origins = [origin.rstrip("/").lower() for origin in value.split()]
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin):
                raise ValueError(f"{origin!r} is not an origin; it looks like https://app.example.org")
        return " ".join(origins)

    @field_validator("home", "models_dir", "profiles_dir", "cache_dir", mode="after")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value and expanded(value).absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - part of the hook's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in the order that the module describes."""
        aws = InitSettingsSource(settings_cls, _aws_names(dotenv_settings))
        earlier: dict[str, Any] = {}
        for source in (aws, dotenv_settings, env_settings, init_settings):
            earlier |= source()
        file = InitSettingsSource(settings_cls, _connection(earlier))
        return init_settings, env_settings, dotenv_settings, aws, file

    @property
    def folder_paths(self) -> tuple[Path, ...]:
        """The folders that workers may read in place."""
        return tuple(expanded(path) for path in self.folders.split(os.pathsep) if path)

    @property
    def loop_seconds(self) -> float:
        """Seconds after which a loop of a process that has not come round counts as stuck: several bounded waits."""
        return max(90.0, 3 * (self.database_seconds + 5))

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """The origins of web pages that may call the API."""
        return tuple(self.api_cors_origins.split())

    def require_database_url(self) -> str:
        """Return the database URL, `postgresql+psycopg://…`. Raises `ConfigurationError` when there is none."""
        hint = "run `dpiqa local up`, or set DPIQA_DATABASE_URL=postgresql://user:password@host/db"
        return _required(self.database_url, "database", hint)

    def require_broker_url(self) -> BrokerUrl:
        """Return the broker URL in its parts. Raises `ConfigurationError` when there is none."""
        hint = "run `dpiqa local up`, or set DPIQA_BROKER_URL=redis://:password@host:6379/0"
        url = read_broker_url(_required(self.broker_url, "broker", hint))
        if url.kind is BrokerKind.SQS:
            return replace(url, options={"region": self.aws_region, **url.options})
        return url

    def require_queue_url(self) -> str:
        """Return the SQS queue with the bucket's events. Raises `ConfigurationError` when there is none."""
        hint = "run `dpiqa local up`, or set DPIQA_QUEUE_URL to the SQS queue that your bucket notifies"
        return _required(SecretStr(self.queue_url) if self.queue_url else None, "event queue", hint)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. Raises `ConfigurationError`, in one line that names the variable, when one is wrong."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong = first_field_error(error)
        variables = " or ".join((PREFIX + wrong.field.upper(), *AWS_NAMES.get(wrong.field, ())))
        raise ConfigurationError(
            f"{PREFIX}{wrong.field.upper()} is wrong: {wrong.message}",
            hint=f"correct {variables} in the environment or in .env; `dpiqa config show` lists all settings",
        ) from None


def masked(settings: Settings) -> dict[str, str]:
    """Return every setting as text, without its secrets, as `dpiqa config show` prints it."""

    def mask(value: Any) -> str:
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            return mask_url(secret) if "://" in secret else "***"
        return "" if value is None else str(value)

    return {name: mask(getattr(settings, name)) for name in type(settings).model_fields}


def _required(value: SecretStr | None, name: str, hint: str) -> str:
    if value is None:
        raise ConfigurationError(f"no {name} is configured", hint=hint)
    return value.get_secret_value()


def _aws_names(dotenv: PydanticBaseSettingsSource) -> dict[str, Any]:
    """Return the values of AWS's own names, in the environment or `.env`."""
    variables = (
        {name.upper(): value for name, value in dotenv.env_vars.items()}
        if isinstance(dotenv, DotEnvSettingsSource)
        else {}
    )
    variables |= os.environ
    return {
        field: next(variables[name] for name in names if name in variables)
        for field, names in AWS_NAMES.items()
        if any(name in variables for name in names)
    }


def _connection(earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return the addresses of the running embedded stack, without its credentials where another S3 is configured."""
    values = read_live_connection(expanded(earlier.get("home") or default_home()))
    if {"s3_endpoint_url", "sqs_endpoint_url"} & set(earlier):
        for name in ("aws_access_key_id", "aws_secret_access_key", "queue_url"):
            values.pop(name, None)
    return {name: value for name, value in values.items() if name in Settings.model_fields}
