"""The origin of a job's objects, as the arguments of `dpiqa submit` name it, and its reader on this machine."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dpiqa.addresses import S3Address, folder_bucket, folder_path, is_folder, is_s3, object_address, parse_s3
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.files import expanded
from dpiqa.objects.folder import FolderStore
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.stores import open_stores
from dpiqa.settings import Settings
from dpiqa.sources.base import Source
from dpiqa.sources.inventory import DiskInventory, InventorySource
from dpiqa.sources.manifest import FileSource
from dpiqa.sources.opening import open_source
from dpiqa.sources.spec import SourceSpec
from dpiqa.types import JobKind

STDIN = "-"
_HINT = "name s3://bucket/prefix or a folder, --list MANIFEST, or --inventory MANIFEST_JSON"


@dataclass(frozen=True, slots=True)
class Origin:
    """The objects of a job. Those of a file or pipe of this machine are uploaded: workers cannot read them there."""

    kind: JobKind
    bucket: str  #: of all objects, or of keys without one; empty: none is named
    prefix: str
    spec: SourceSpec
    file: str | None = None  #: path on this machine, or `-`; None: workers read the source where it is

    def __str__(self) -> str:
        if self.kind in (JobKind.MANIFEST, JobKind.INVENTORY):
            return self.spec.address or ""
        return object_address(self.bucket, self.prefix)

    @contextmanager
    def opened(self, settings: Settings) -> Iterator[Source]:
        """Yield the reader. Raises `NotFound`, `InvalidRequest`, `ConfigurationError`."""
        if self.bucket and self.kind in (JobKind.MANIFEST, JobKind.INVENTORY):  # which is not read to read those
            S3Store.from_settings(settings).require_bucket(self.bucket)
        if self.file is None:
            yield open_source(open_stores(settings), self.kind, self.bucket, self.prefix, self.spec)
        elif self.kind is JobKind.INVENTORY:
            yield InventorySource(DiskInventory(_existing(self.file)), self.bucket, self.prefix)
        elif self.file == STDIN:
            with _standard_input(self.spec) as file:
                yield FileSource(file, "standard input", self.spec, self.bucket)
        else:
            with _existing(self.file).open("rb") as file:
                yield FileSource(file, self.file, self.spec, self.bucket)


def find_origin(where: str | None, listed: str | None, inventory: str | None, spec: SourceSpec) -> Origin:
    """Return what the arguments name: a prefix or folder, a manifest or an inventory. Raises `InvalidRequest`."""
    if listed is not None and inventory is not None:
        raise InvalidRequest("--list and --inventory cannot be combined", hint="pass only one")
    if listed is None and inventory is None:
        if where is None:
            raise InvalidRequest("nothing is named to be scored", hint=_HINT)
        if spec.format or spec.columns or spec.url_encoded:
            raise InvalidRequest(
                "--format, --columns and --url-encoded describe a manifest", hint="add --list MANIFEST"
            )
        if is_s3(where):
            address = parse_s3(where)
            return Origin(JobKind.PREFIX, address.bucket, address.key, spec)
        if "://" in where and not is_folder(where):
            raise InvalidRequest(f"{where} is not an address that can be read", hint=_HINT)
        return Origin(JobKind.FOLDER, _folder(where), "", spec)
    address = parse_s3(where) if where is not None else S3Address("", "")
    kind, name = (JobKind.MANIFEST, listed) if listed is not None else (JobKind.INVENTORY, inventory or "")
    if kind is JobKind.MANIFEST and address.key:
        raise InvalidRequest(
            f"--list takes a bucket, not the prefix {address}", hint=f"write s3://{address.bucket}; keys are whole keys"
        )
    if is_s3(name):
        spec = spec.model_copy(update={"address": str(parse_s3(name))})
        return Origin(kind, address.bucket, address.key, spec)
    shown = "standard input" if name == STDIN else Path(name).name
    return Origin(kind, address.bucket, address.key, spec.model_copy(update={"address": shown}), file=name)


def _folder(where: str) -> str:
    path = folder_path(where) if is_folder(where) else expanded(where)
    if not path.exists():
        raise NotFound(f"{where} does not exist", hint=_HINT)
    if not path.is_dir():
        raise InvalidRequest(f"{where} is a file", hint="a manifest goes to --list; `dpiqa score FILE` scores a file")
    return folder_bucket(path.resolve())


def check_folder(origin: Origin, settings: Settings) -> None:
    """Raise `ConfigurationError` where workers with these settings would refuse to read the folder."""
    if origin.kind is JobKind.FOLDER:
        FolderStore(settings.folder_paths).check(origin.bucket)


def _existing(name: str) -> Path:
    path = expanded(name)
    if not path.exists():
        raise NotFound(f"{name} does not exist", hint="check the path")
    if path.is_dir():
        raise InvalidRequest(
            f"{name} is a folder, not a manifest", hint=f"`dpiqa submit {name}` scores the files in it"
        )
    return path


@contextmanager
def _standard_input(spec: SourceSpec) -> Iterator[BinaryIO]:
    """Yield the pipe; or a copy of it on disk where it must be read twice, or from its end."""
    pipe: Any = sys.stdin.buffer
    if sys.stdin.isatty():
        raise InvalidRequest(
            "--list - reads a manifest from a pipe", hint="for example: dpiqa submit --list - < keys.txt"
        )
    if spec.sample is None and not pipe.peek(4).startswith((b"PAR1", b"ORC")):
        yield pipe
        return
    with tempfile.TemporaryFile(prefix="dpiqa-") as copy:
        shutil.copyfileobj(pipe, copy)
        copy.seek(0)
        yield copy
