"""The pull of one entry: terms, files, checks, import. What is here already is not fetched again."""

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
from dpiqa.models.catalogue.entries import Entry
from dpiqa.models.catalogue.parts import PARTS, check_readable
from dpiqa.models.catalogue.places import Place
from dpiqa.models.catalogue.record import check_known, read_record, remember
from dpiqa.models.folder import check_new, unwritable
from dpiqa.models.importing import import_checkpoint
from dpiqa.types import ModelKind

DOWNLOADS = "downloads"  #: folder within the models folder for files that wait for their import
#: Gives, for the name of a file, what is told of its progress.
Watch = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, kw_only=True)
class Pull:
    """How to pull an entry."""

    entry: Entry
    places: list[Place]
    models_dir: Path
    name: str  #: of the model that is made
    text_embeddings: Path | None = None
    importing: bool = True  #: False: only download
    timeouts: Timeouts = field(default_factory=Timeouts)
    watch: Watch = lambda _: nullcontext(lambda _done, _total: None)
    say: Callable[[str], None] = lambda _: None


def pull(request: Pull) -> ModelCard | Path:
    """Fetch, check and import; returns the new model's card, or the folder of a part or of what was only downloaded.

    Raises `SourceUnavailable`, `NotFound`, `InvalidRequest`, `CheckpointError`, `ConfigurationError`. What came of an
    interrupted download is kept for the next call.
    """
    entry = request.entry
    makes_model = entry.kind is not None and request.importing
    if makes_model:
        _check_beforehand(request)
    folder = request.models_dir / (PARTS if entry.kind is None else DOWNLOADS) / entry.name
    sums = [_obtain(request, place, folder / place.name) for place in request.places]
    made = _import(request, folder / entry.files[0]) if makes_model else folder
    for place, sha256 in zip(request.places, sums, strict=True):
        size = (folder / place.name).stat().st_size
        remember(f"{entry.name}/{place.name}", sha256, size, place.said, request.models_dir)
    if makes_model:
        shutil.rmtree(folder, ignore_errors=True)
    return made


def _check_beforehand(request: Pull) -> None:
    """Refuse now what would be refused after gigabytes came."""
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


def _obtain(request: Pull, place: Place, target: Path) -> str:
    """Put one file in its place, unless it is there already; returns its sha256, checked."""
    record = read_record(request.models_dir)
    name = f"{request.entry.name}/{place.name}"
    known = record.files.get(name)
    if target.is_file() and (known is None or sha256_of(target) == known.sha256):
        request.say(f"{name} is here")  # whole, or it would be a part; not known: it was never imported
    elif place.path is not None:
        _copy(place.path, target)
    else:
        headers = _hub_headers() if place.is_hub else {}
        with request.watch(place.name) as progress:
            fetch(place.url, target, headers=headers, timeouts=request.timeouts, progress=progress)
    try:
        sha256 = sha256_of(target)
        check_known(name, sha256, record, request.models_dir)
        check_readable(target)
    except CheckpointError:
        target.unlink()  # whole, and still wrong: nothing to go on from
        raise
    return sha256


def _import(request: Pull, file: Path) -> ModelCard:
    entry = request.entry
    assert entry.kind is not None  # noqa: S101 - asked before
    try:
        return import_checkpoint(
            file,
            kind=entry.kind,
            name=request.name,
            models_dir=request.models_dir,
            text_embeddings=request.text_embeddings,
            say=request.say,
            licence=entry.terms.licence,
            paper=entry.terms.paper,
            trained_on=entry.trained_on,
            notes=entry.terms.notes,
        )
    except CheckpointError as error:
        if str(file) in error.message:
            file.unlink(missing_ok=True)  # the download itself is bad; kept, it would be taken for good next time
        raise


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise unwritable(target.parent, error) from error


def _hub_headers() -> dict[str, str]:
    """Let the user in where a publisher asks who they are."""
    from huggingface_hub import get_token  # noqa: PLC0415 - an extra; `places_of` has asked for it

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}
