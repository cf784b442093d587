"""`dpiqa put`: upload files to S3 with the settings' endpoint and credentials."""

import mimetypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from dpiqa.addresses import S3Address, parse_s3
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import counting
from dpiqa.errors import InvalidRequest, ObjectGone
from dpiqa.objects.s3 import S3Store

_CHUNK = 1024 * 1024
FilesArgument = Annotated[
    list[Path],
    typer.Argument(help="Files to upload.", metavar="FILE...", exists=True, dir_okay=False, show_default=False),
]
AddressArgument = Annotated[
    str,
    typer.Argument(
        help="s3://bucket/prefix/, under which each file has its own name; of one file also s3://bucket/key.",
        metavar="S3_ADDRESS",
        show_default=False,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace objects that exist.")]


@command(
    "put",
    "dpiqa put photo.jpg s3://dpiqa-inbox/",
    "dpiqa put ~/Pictures/*.jpg s3://photos/2024/",
    "dpiqa put photo.jpg s3://photos/2024/first.jpg --overwrite",
)
def put(
    files: FilesArgument,
    s3_address: AddressArgument,
    overwrite: OverwriteOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Upload files to S3, with the credentials and the endpoint that the other commands use.

    Nothing is uploaded if one of the objects exists, unless --overwrite is given. Under a watched prefix the images are
    scored when they arrive; elsewhere `dpiqa submit` queues them.
    """
    targets = _targets(files, parse_s3(s3_address))
    store = S3Store.from_settings(context.read_settings())
    store.require_bucket(targets[0].bucket)
    if not overwrite:
        for target in targets:
            _require_absent(store, target)
    uploaded = []
    with counting("uploading", len(files)) as advance:
        for file, target in zip(files, targets, strict=True):
            media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            store.put(target.bucket, target.key, _chunks(file), media_type=media_type)
            uploaded.append({"file": str(file), "address": str(target), "bytes": file.stat().st_size})
            advance(1)
    if as_json:
        console.print_json("uploaded-file@1", uploaded)
        return
    console.table(("address", "bytes"), [(one["address"], one["bytes"]) for one in uploaded], whole=("address",))


def _targets(files: Sequence[Path], address: S3Address) -> list[S3Address]:
    """Return where each file goes. Raises `InvalidRequest` where two would have one address."""
    if address.key and not address.key.endswith("/"):
        if len(files) > 1:
            hint = f"write {address}/ to upload them under a prefix"
            raise InvalidRequest(f"{len(files)} files cannot all become {address}", hint=hint)
        return [address]
    names = [file.name for file in files]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidRequest(f"two files are named {twice}", hint="upload them under different prefixes")
    return [S3Address(address.bucket, address.key + name) for name in names]


def _require_absent(store: S3Store, target: S3Address) -> None:
    try:
        store.head(target.bucket, target.key)
    except ObjectGone:
        return
    raise InvalidRequest(f"{target} exists, nothing was uploaded", hint="use --overwrite to replace it")


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
