"""Pull of one entry: its files, their checks, and the import. Files that were pulled before are not fetched again."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from dpiqa.downloads import Timeouts, fetch
from dpiqa.downloads.fetch import Progress
from dpiqa.errors import CheckpointError, InvalidRequest, NotFound
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import sha256_of
from dpiqa.models.catalogue.entries import Entry, FileSource
from dpiqa.models.catalogue.pulled import PARTS, check_readable, check_recorded, read_record, record_file
from dpiqa.models.folder import check_new, unwritable
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.types import ModelKind

DOWNLOADS = "downloads"  #: folder within the models folder for files that wait for their import


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """An entry to pull, and the model to make of it."""

    entry: Entry
    sources: list[FileSource]  #: one for each file of the entry
    models_dir: Path
    name: str  #: of the model that is made
    text_embeddings: Path | None = None
    importing: bool = True  #: False: only download
    timeouts: Timeouts = field(default_factory=Timeouts)
    #: Makes, for the name of a file, the function that its download calls with bytes so far and in all.
    show_progress: Callable[[str], AbstractContextManager[Progress]] = lambda _: nullcontext(lambda _done, _total: None)
    note: Callable[[str], None] = lambda _: None  #: is called with remarks for the user


def pull(request: PullRequest) -> ModelCard | Path:
    """Fetch, check and import; returns the new model's card, or the folder of a part or of what was only downloaded.

    What an interrupted download has fetched is kept for the next call. Raises `SourceUnavailable`, `NotFound`,
    `InvalidRequest`, `CheckpointError`, `ConfigurationError`.
    """
    entry = request.entry
    makes_model = entry.kind is not None and request.importing
    if makes_model:
        _check_request(request)
    folder = request.models_dir / (PARTS if entry.kind is None else DOWNLOADS) / entry.name
    digests = [_obtain(request, source, folder / source.name) for source in request.sources]
    result = _import(request, folder / entry.files[0]) if makes_model else folder
    for source, sha256 in zip(request.sources, digests, strict=True):
        size = (folder / source.name).stat().st_size
        record_file(f"{entry.name}/{source.name}", sha256, size, str(source), request.models_dir)
    if makes_model:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _check_request(request: PullRequest) -> None:
    """Refuse before the download what the import would refuse after gigabytes."""
    check_new(request.name, request.models_dir)
    if request.entry.kind is ModelKind.TEACHER and request.text_embeddings is None:
        raise InvalidRequest(
            "a published teacher does not hold the embeddings of its prompts",
            hint="make them once: dpiqa models pull clip-vit-l14, then dpiqa models embed-text; name the file with "
            "--text-embeddings (or only download with --no-import)",
        )
    if request.text_embeddings is not None and not request.text_embeddings.is_file():
        raise NotFound(f"there are no text embeddings at {request.text_embeddings}", hint="check the path")
    if request.entry.kind is not ModelKind.TEACHER and request.text_embeddings is not None:
        raise InvalidRequest(f"a {request.entry.kind} takes no text embeddings", hint="leave --text-embeddings out")


def _obtain(request: PullRequest, source: FileSource, target: Path) -> str:
    """Fetch one file to `target`, unless it is there already; returns its sha256, checked."""
    record = read_record(request.models_dir)
    name = f"{request.entry.name}/{source.name}"
    recorded = record.files.get(name)
    if target.is_file() and (recorded is None or sha256_of(target) == recorded.sha256):
        # Whole, or its name would be that of an unfinished download; not recorded: it was never imported.
        request.note(f"{name} was downloaded before")
    elif source.path is not None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path, target)
        except OSError as error:
            raise unwritable(target.parent, error) from error
    else:
        headers = {}
        if source.is_hub:  # some publishers there ask who downloads
            from huggingface_hub import get_token  # noqa: PLC0415 - an extra; `find_sources` has needed it

            token = get_token()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
        with request.show_progress(source.name) as progress:
            fetch(source.url, target, headers=headers, timeouts=request.timeouts, progress=progress)
    try:
        sha256 = sha256_of(target)
        check_recorded(name, sha256, record, request.models_dir)
        check_readable(target)
    except CheckpointError:
        target.unlink()  # whole, and still wrong: nothing to continue from
        raise
    return sha256


def _import(request: PullRequest, file: Path) -> ModelCard:
    entry = request.entry
    assert entry.kind is not None  # noqa: S101 - the caller has checked
    try:
        return import_checkpoint(
            file,
            kind=entry.kind,
            name=request.name,
            models_dir=request.models_dir,
            text_embeddings=request.text_embeddings,
            note=request.note,
            licence=entry.terms.licence,
            paper=entry.terms.paper,
            trained_on=entry.trained_on,
            notes=entry.terms.notes,
        )
    except CheckpointError as error:
        if str(file) in error.message:
            file.unlink(missing_ok=True)  # the download itself is bad; if kept, the next pull would use it
        raise
