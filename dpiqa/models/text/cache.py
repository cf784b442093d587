"""Embeddings are made once: files named by the sha256 of all that went into them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from dpiqa.errors import CheckpointError
from dpiqa.models.prompts import PromptTable
from dpiqa.models.text.clip import TextEncoder
from dpiqa.models.text.embeddings import TextEmbeddings, content_hash, read_embeddings, write_embeddings
from dpiqa.models.text.source import TextSource


def cached_embeddings(
    table: PromptTable, name: str, encoder: TextEncoder, folder: Path, *, progress: Callable[[int], None] | None = None
) -> tuple[TextEmbeddings, Path]:
    """Return the embeddings of all texts of `table`, and their file in `folder`; make them if it is not there.

    `name`: what the table is called; `progress` is told how many more texts are done. A damaged file is made again.
    Raises `InvalidRequest` for a text that is too long.
    """
    key = cache_key(table, name, encoder)
    path = folder / f"{key}.safetensors"
    try:
        found = read_embeddings(path)
    except CheckpointError:
        found = None
    if found is None or found.source.made_from != key:
        found = _make(table, name, key, encoder, progress)
        write_embeddings(path, found)
    return found, path


def cache_key(table: PromptTable, name: str, encoder: TextEncoder) -> str:
    """Return the sha256 of name, texts, token ids, the encoder's weights and the pooling, hex."""
    texts = table.texts()
    parts = [name, texts, encoder.tokens(texts), encoder.weights_sha256, encoder.pooling.value]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _make(
    table: PromptTable, name: str, key: str, encoder: TextEncoder, progress: Callable[[int], None] | None
) -> TextEmbeddings:
    parts: list[torch.Tensor] = []
    for part in encoder.embed(table.texts()):
        parts.append(part)
        if progress:
            progress(len(part))
    values = torch.cat(parts)
    source = TextSource(
        prompts=name,
        encoder=encoder.name,
        pooling=encoder.pooling,
        reconstructed=table.reconstructed,
        sha256=content_hash(values),
        made_from=key,
    )
    return TextEmbeddings(values, source)
