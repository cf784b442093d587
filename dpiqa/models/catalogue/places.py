"""From an entry and what the user wants to the places of its files. Pure, but for asking whether a path is there."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound
from dpiqa.models.catalogue.entries import Entry

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where the two big hosts are reached."""

    drive: str  #: e.g. `https://drive.usercontent.google.com`
    hub: str | None = None  #: None: `HF_ENDPOINT`, or the hub itself


@dataclass(frozen=True, slots=True)
class Place:
    """Where one file of an entry is: an address or a path."""

    name: str  #: path within the entry
    url: str = ""
    path: Path | None = None
    is_hub: bool = False  #: the user's own hub, which may be told the user's token

    @property
    def said(self) -> str:
        """What messages and records call it."""
        return str(self.path) if self.path else self.url


def places_of(entry: Entry, hosts: Hosts, *, source: str | None = None, revision: str | None = None) -> list[Place]:
    """Find all files of an entry.

    `source`: another place than the catalogue's: a local file or folder; for what is on the hub, a mirror
    (`https://…`) or another repository (`owner/name`); for what is on Google Drive, the file's address elsewhere.
    Raises `InvalidRequest` or `NotFound` if the source is none.
    """
    if revision is not None and entry.hub is None:
        raise InvalidRequest(f"{entry.name} has no revisions: it is not on the hub", hint="leave --revision out")
    if source is not None and Path(source).expanduser().exists():
        return [_local(entry, name, Path(source).expanduser()) for name in entry.files]
    is_url = source is not None and source.startswith(("http://", "https://"))
    if entry.drive is not None:
        if source is not None and not is_url:
            raise NotFound(f"there is no {source}", hint="name a file, a folder or an address")
        return [Place(entry.files[0], url=source or _drive_url(entry.drive, hosts.drive))]
    if source is not None and not is_url and not _REPOSITORY.fullmatch(source):
        raise NotFound(f"there is no {source}", hint="name a file, a folder, a mirror's address or OWNER/REPOSITORY")
    repository = entry.hub if source is None or is_url else source
    return _on_hub(entry, str(repository), revision or entry.revision, hosts, mirror=source if is_url else None)


def _local(entry: Entry, name: str, source: Path) -> Place:
    path = source / name if source.is_dir() else source
    if source.is_file() and len(entry.files) > 1:
        raise InvalidRequest(f"{entry.name} is {len(entry.files)} files, {source} is one", hint="name their folder")
    if not path.is_file():
        raise NotFound(f"there is no {path}", hint=f"{entry.name} consists of: {', '.join(entry.files)}")
    return Place(name, path=path)


def _drive_url(file_id: str, host: str) -> str:
    """Address the file itself; `confirm` answers the question about the virus scan, which large files get."""
    return f"{host.rstrip('/')}/download?{urlencode({'id': file_id, 'export': 'download', 'confirm': 't'})}"


def _on_hub(entry: Entry, repository: str, revision: str, hosts: Hosts, *, mirror: str | None) -> list[Place]:
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
        Place(name, url=hf_hub_url(repository, name, revision=revision, endpoint=base), is_hub=mirror is None)
        for name in entry.files
    ]
