"""The table of published weights, `published.toml`, and the sources of an entry's files.

Pure, except that it asks whether a local path exists.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator

from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound
from dpiqa.files import expanded
from dpiqa.types import ModelKind

_TABLE = Path(__file__).parent / "published.toml"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
#: A path inside a repository: no `..`, not absolute.
RelativePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*$")]


class Terms(BaseModel):
    """Licence and origin of all weights of one publisher."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    licence: str
    licence_url: str  #: where it can be read
    paper: str
    notes: str = ""


class Entry(BaseModel):
    """A model that can be pulled, or a part that models are made with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: ModelKind | None = None  #: what it is imported as; None: a part, kept as it is
    drive: str | None = None  #: id of its one file on Google Drive
    hub: str | None = None  #: repository on the Hugging Face hub
    revision: str = "main"  #: of the repository
    files: tuple[RelativePath, ...] = Field(min_length=1)
    terms: Terms
    trained_on: str = ""
    bytes: PositiveInt | None = None  #: about; None: unknown

    @model_validator(mode="after")
    def _has_one_host(self) -> "Entry":
        if (self.drive is None) == (self.hub is None):
            raise ValueError("exactly one of drive and hub")
        if len(self.files) != 1 and (self.drive is not None or self.kind is not None):
            raise ValueError("a model, or what is on Google Drive, is one file")
        return self


@cache
def catalogue() -> dict[str, Entry]:
    """Return all entries by name, in the order of the table."""
    table = tomllib.loads(_TABLE.read_text("utf-8"))
    terms = table["terms"]
    return {
        name: Entry.model_validate(fields | {"name": name, "terms": terms[fields["terms"]]})
        for name, fields in table["model"].items()
    }


def find_entry(name: str) -> Entry:
    """Return the entry called `name`. Raises `NotFound` naming all entries."""
    entries = catalogue()
    if name not in entries:
        raise NotFound(f"nothing called {name!r} can be pulled", hint=f"there are: {', '.join(entries)}")
    return entries[name]


@dataclass(frozen=True, slots=True)
class Hosts:
    """Addresses of the two big hosts."""

    drive: str  #: e.g. `https://drive.usercontent.google.com`
    hub: str | None = None  #: None: `HF_ENDPOINT`, or the hub itself


@dataclass(frozen=True, slots=True)
class FileSource:
    """Address or path of one file of an entry."""

    name: str  #: path within the entry
    url: str = ""
    path: Path | None = None
    is_hub: bool = False  #: the hub itself: it gets the user's token

    def __str__(self) -> str:
        """Return the path or the address, for messages and records."""
        return str(self.path) if self.path else self.url


def find_sources(
    entry: Entry, hosts: Hosts, *, source: str | None = None, revision: str | None = None
) -> list[FileSource]:
    """Return the source of each file of an entry.

    Args:
        entry: what is to be pulled.
        hosts: addresses of the hosts.
        source: another source than the catalogue's: a local file or folder; for what is on the hub, a mirror
            (`https://…`) or another repository (`owner/name`); for what is on Google Drive, the file's address
            elsewhere.
        revision: branch, tag or commit on the hub, instead of the catalogue's.

    Raises:
        ConfigurationError: the entry is on the hub, and `huggingface_hub` is not installed.
        InvalidRequest: the entry has no revisions, or the source is one file and the entry several.
        NotFound: the source does not exist.
    """
    if revision is not None and entry.hub is None:
        raise InvalidRequest(f"{entry.name} has no revisions: it is not on the hub", hint="leave --revision out")
    if source is not None and expanded(source).exists():
        return [_local(entry, name, expanded(source)) for name in entry.files]
    is_url = source is not None and source.startswith(("http://", "https://"))
    if entry.drive is not None:
        if source is not None and not is_url:
            raise NotFound(f"{source} does not exist", hint="name a file, a folder or an address")
        # The address of the file itself; `confirm` skips the question about the virus scan of large files.
        query = urlencode({"id": entry.drive, "export": "download", "confirm": "t"})
        return [FileSource(entry.files[0], url=source or f"{hosts.drive.rstrip('/')}/download?{query}")]
    if source is not None and not is_url and not _REPOSITORY.fullmatch(source):
        raise NotFound(f"{source} does not exist", hint="name a file, a folder, a mirror's address or OWNER/REPOSITORY")
    repository = entry.hub if source is None or is_url else source
    return _on_hub(entry, str(repository), revision or entry.revision, hosts, mirror=source if is_url else None)


def _local(entry: Entry, name: str, source: Path) -> FileSource:
    path = source / name if source.is_dir() else source
    if source.is_file() and len(entry.files) > 1:
        raise InvalidRequest(f"{entry.name} is {len(entry.files)} files, {source} is one", hint="name their folder")
    if not path.is_file():
        raise NotFound(f"{path} does not exist", hint=f"{entry.name} consists of: {', '.join(entry.files)}")
    return FileSource(name, path=path)


def _on_hub(entry: Entry, repository: str, revision: str, hosts: Hosts, *, mirror: str | None) -> list[FileSource]:
    try:
        from huggingface_hub import hf_hub_url  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"{entry.name} is on the Hugging Face hub, and huggingface_hub is not installed",
            hint="pip install 'dpiqa[models]', or download it elsewhere and name the folder with --source",
        ) from error
    host = mirror or hosts.hub
    base = host.rstrip("/") if host else None
    return [
        FileSource(name, url=hf_hub_url(repository, name, revision=revision, endpoint=base), is_hub=mirror is None)
        for name in entry.files
    ]
