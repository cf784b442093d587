"""Embeddings on disk, made once: files named by the sha256 of everything that determines them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from dpiqa.errors import CheckpointError
from dpiqa.models.prompts import PromptTable
from dpiqa.models.text.clip import TextEncoder
from dpiqa.models.text.embeddings import TextEmbeddings, TextSource, content_hash, read_embeddings, write_embeddings


def cached_embeddings(
    table: PromptTable, name: str, encoder: TextEncoder, folder: Path, *, progress: Callable[[int], None] | None = None
) -> tuple[TextEmbeddings, Path]:
    """Return the embeddings of all texts of `table`, and their file in `folder`; made now if it does not exist.

    `name`: of the table; `progress` is called with the number of texts done since its last call. A damaged file is
    made again. Raises `InvalidRequest` for a text that is too long.
    """
    key = cache_key(table, name, encoder)
    path = folder / f"{key}.safetensors"
    try:
        embeddings = read_embeddings(path)
    except CheckpointError:
        embeddings = None
    if embeddings is None or embeddings.source.made_from != key:
        embeddings = _make(table, name, key, encoder, progress)
        write_embeddings(path, embeddings)
    return embeddings, path


def cache_key(table: PromptTable, name: str, encoder: TextEncoder) -> str:
    """Return the sha256 of name, texts, token ids, the encoder's weights and the pooling, hex."""
    texts = table.texts()
    ingredients = [name, texts, encoder.tokens(texts), encoder.weights_sha256, encoder.pooling.value]
    return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()


def _make(
    table: PromptTable, name: str, key: str, encoder: TextEncoder, progress: Callable[[int], None] | None
) -> TextEmbeddings:
    batches: list[torch.Tensor] = []
    for batch in encoder.embed(table.texts()):
        batches.append(batch)
        if progress:
            progress(len(batch))
    values = torch.cat(batches)
    source = TextSource(
        prompts=name,
        encoder=encoder.name,
        pooling=encoder.pooling,
        reconstructed=table.reconstructed,
        sha256=content_hash(values),
        made_from=key,
    )
    return TextEmbeddings(values, source)
