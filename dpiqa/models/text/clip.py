"""Embeddings of texts by CLIP's text encoder, from transformers, kept on disk.

A table of prompts names one of two kinds (`TextPooling`): the published DP-IQA code takes CLIP's text features (the
state of the end token, projected); its paper averages the token states of Stable Diffusion's text encoder, which is
CLIP's. Files are named by the sha256 of everything that determines the embeddings, which are made once.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.models.prompts import PromptTable, TextPooling
from dpiqa.models.text.embeddings import TextEmbeddings, TextSource, content_hash, read_embeddings, write_embeddings
from dpiqa.text import reason_of

BATCH = 64  #: texts at a time
_MODELS = {TextPooling.PROJECTED: CLIPTextModelWithProjection, TextPooling.TOKEN_MEAN: CLIPTextModel}


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text encoder and its tokenizer, in float32."""

    name: str  #: `FOLDER@` and the start of the sha256 of its weights
    weights_sha256: str
    pooling: TextPooling
    tokenizer: Any
    network: Any
    device: torch.device

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Return each text's token ids. Raises `InvalidRequest` for a text that is longer than the encoder reads."""
        longest = self.network.config.max_position_embeddings
        ids: list[list[int]] = self.tokenizer(texts, truncation=False)["input_ids"]
        for text, tokens in zip(texts, ids, strict=True):
            if len(tokens) > longest:
                raise InvalidRequest(
                    f"{text!r} has {len(tokens)} tokens; {self.name} reads {longest}", hint="shorten the prompt"
                )
        return ids

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> Iterator[torch.Tensor]:
        """Yield the embeddings (n, width) of up to `BATCH` texts at a time, float32, on the CPU.

        An embedding does not depend on other texts: padding is masked.
        """
        ids = self.tokens(texts)
        for start in range(0, len(ids), BATCH):
            batch = self.tokenizer.pad({"input_ids": ids[start : start + BATCH]}, return_tensors="pt").to(self.device)
            output = self.network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            yield self._pooled(output, batch["attention_mask"]).cpu()

    def _pooled(self, output: Any, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling is TextPooling.PROJECTED:
            projected: torch.Tensor = output.text_embeds
            return projected
        weights = mask[:, :, None].to(output.last_hidden_state.dtype)
        mean: torch.Tensor = (output.last_hidden_state * weights).sum(dim=1) / weights.sum(dim=1)
        return mean


def load_text_encoder(folder: Path, pooling: TextPooling, *, device: torch.device) -> TextEncoder:
    """Load CLIP (its own layout, or Stable Diffusion's with `text_encoder/` and `tokenizer/`) from a local folder.

    Raises `CheckpointError`: no such folder, no safetensors weights, or weights that lack what `pooling` needs, as
    Stable Diffusion's lack the projection.
    """
    nested = (folder / "text_encoder").is_dir()
    weights, words = (folder / "text_encoder", folder / "tokenizer") if nested else (folder, folder)
    if not (weights / "config.json").is_file():
        raise CheckpointError(
            f"{folder} does not hold a text encoder", hint="name a folder of CLIP or of Stable Diffusion"
        )
    try:
        network, loading_info = _load_quietly(_MODELS[pooling], weights)
        tokenizer = CLIPTokenizer.from_pretrained(words, local_files_only=True)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} cannot be loaded as CLIP: {reason_of(error)}", hint="restore the folder"
        ) from error
    if loading_info["missing_keys"]:
        raise CheckpointError(
            f"{folder} has no {sorted(loading_info['missing_keys'])[0]}, which {pooling} embeddings need",
            hint="name CLIP's own folder: the text encoder of Stable Diffusion serves token-mean only",
        )
    digest = _hash_weights(network.state_dict())
    return TextEncoder(
        f"{folder.resolve().name}@{digest[:12]}", digest, pooling, tokenizer, network.eval().to(device), device
    )


def _load_quietly(kind: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Load without a progress bar, and without the warning about CLIP's image half, which is not used."""
    library_logging: Any = transformers.utils.logging  # untyped
    verbosity, has_bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity(logging.ERROR)
    library_logging.disable_progress_bar()
    try:
        network, loading_info = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    finally:
        library_logging.set_verbosity(verbosity)
        if has_bars:
            library_logging.enable_progress_bar()
    return network, loading_info


def _hash_weights(tensors: dict[str, torch.Tensor]) -> str:
    """Return the sha256 of names, shapes and float32 values: the same in any file format and precision."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point():
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


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
