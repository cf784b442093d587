import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.clip import WIDTH, write_tiny_clip, write_tiny_diffusion_text
from transformers import CLIPTokenizer

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.models.prompts import PromptTable, TextPooling, prompt_table
from dpiqa.models.text.clip import cached_embeddings, load_text_encoder
from dpiqa.models.text.embeddings import read_embeddings

CPU = torch.device("cpu")
TEXTS = ["a cat", "a photo of a city, blurred and noisy", "x"]
TABLE = PromptTable(
    template="{quality} {scene} with {distortion}",
    qualities=("bad", "good"),
    scenes=("cat", "dog"),
    distortions=("blur", "noise"),
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "clip"
    write_tiny_clip(folder)
    return folder


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "diffusion"
    write_tiny_diffusion_text(folder)
    return folder


def embed(folder, pooling, texts):
    return torch.cat(list(load_text_encoder(folder, pooling, device=CPU).embed(texts)))


def test_projected_embeddings_are_clips_text_features(tmp_path):
    model = write_tiny_clip(tmp_path / "clip")
    texts = prompt_table("published-1485").texts()[::100]
    inputs = CLIPTokenizer.from_pretrained(tmp_path / "clip")(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        features = model.get_text_features(**inputs)
    expected = getattr(features, "pooler_output", features)  # transformers 5, transformers 4
    torch.testing.assert_close(embed(tmp_path / "clip", TextPooling.PROJECTED, texts), expected)


def test_averaged_embeddings_are_the_mean_of_the_token_states_without_padding(tmp_path):
    model = write_tiny_diffusion_text(tmp_path / "sd")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "sd" / "tokenizer")
    embeddings = embed(tmp_path / "sd", TextPooling.TOKEN_MEAN, TEXTS)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(embedding, states[0].mean(dim=0))


@pytest.mark.parametrize("pooling", TextPooling)
def test_an_embedding_depends_on_no_other_text(clip, pooling):
    together = embed(clip, pooling, TEXTS)
    for text, embedding in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(embed(clip, pooling, [text])[0], embedding)


def test_all_published_prompts_become_one_embedding_each(clip):
    embeddings = embed(clip, TextPooling.PROJECTED, prompt_table("published-1485").texts())
    assert embeddings.shape == (1485, WIDTH)
    assert len(embeddings.unique(dim=0)) == 1485


def test_embeddings_are_made_once(clip, tmp_path):
    encoder = load_text_encoder(clip, TextPooling.PROJECTED, device=CPU)
    done = []
    first, path = cached_embeddings(TABLE, "mine", encoder, tmp_path, progress=done.append)
    again, same_path = cached_embeddings(TABLE, "mine", encoder, tmp_path, progress=done.append)
    assert done == [8]
    assert (same_path, again.source) == (path, first.source)
    assert torch.equal(again.values, first.values)
    assert path.stem == first.source.made_from
    assert first.source.prompts == "mine"
    assert first.source.encoder.startswith("clip@")
    assert read_embeddings(path).source == first.source


def test_whatever_goes_in_makes_other_embeddings(clip, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(clip, changed)
    tensors = load_file(changed / "model.safetensors")
    tensors["text_projection.weight"][0, 0] += 0.5
    save_file(tensors, changed / "model.safetensors", metadata={"format": "pt"})
    other_words = TABLE.model_copy(update={"scenes": ("cat", "cow")})
    ways = [
        (TABLE, clip, TextPooling.PROJECTED),
        (TABLE, clip, TextPooling.TOKEN_MEAN),
        (TABLE, changed, TextPooling.PROJECTED),
        (other_words, clip, TextPooling.PROJECTED),
    ]
    results = [
        cached_embeddings(table, "mine", load_text_encoder(folder, pooling, device=CPU), tmp_path / "cache")
        for table, folder, pooling in ways
    ]
    assert len({path for _, path in results}) == len({embeddings.source.sha256 for embeddings, _ in results}) == 4


def test_the_format_of_the_weights_file_is_no_new_encoder(clip, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(clip, half)
    tensors = {name: tensor.half().float() for name, tensor in load_file(clip / "model.safetensors").items()}
    save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
    rounded = load_text_encoder(half, TextPooling.PROJECTED, device=CPU)
    save_file({n: t.half() for n, t in tensors.items()}, half / "model.safetensors", metadata={"format": "pt"})
    assert load_text_encoder(half, TextPooling.PROJECTED, device=CPU).weights_sha256 == rounded.weights_sha256


def test_a_damaged_file_in_the_cache_is_made_again(clip, tmp_path):
    encoder = load_text_encoder(clip, TextPooling.PROJECTED, device=CPU)
    first, path = cached_embeddings(TABLE, "mine", encoder, tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    again, _ = cached_embeddings(TABLE, "mine", encoder, tmp_path)
    assert again.source == first.source == read_embeddings(path).source


def test_stable_diffusions_text_encoder_has_no_projection_and_says_so(diffusion):
    with pytest.raises(CheckpointError, match=r"no text_projection\.weight.*token-mean"):
        load_text_encoder(diffusion, TextPooling.PROJECTED, device=CPU)


def test_a_text_that_is_too_long_is_not_cut(clip):
    with pytest.raises(InvalidRequest, match="132 tokens"):
        embed(clip, TextPooling.PROJECTED, ["a" * 130])


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json", None])
def test_a_folder_without_clip_says_what_is_wrong(clip, tmp_path, lost):
    folder = tmp_path / "clip"
    if lost:
        shutil.copytree(clip, folder)
        (folder / lost).unlink()
    with pytest.raises(CheckpointError, match="clip"):
        load_text_encoder(folder, TextPooling.PROJECTED, device=CPU)
