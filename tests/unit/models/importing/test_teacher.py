"""A published teacher, its older names, and the embeddings it does not hold."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.published import TEACHER, teacher_state_dict, with_old_attention

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.models.loading import load_scorer
from dpiqa.models.teacher import build_teacher
from dpiqa.models.text.embeddings import TextEmbeddings, TextSource, content_hash, write_embeddings
from dpiqa.types import ModelKind

pytestmark = pytest.mark.heavy

COUNT = 6


@pytest.fixture(scope="module")
def published():
    return teacher_state_dict()


@pytest.fixture
def embeddings(tmp_path):
    values = torch.randn(COUNT, TEACHER.unet.text_width, generator=torch.Generator().manual_seed(1))
    source = TextSource(prompts="published-1485", encoder="clip@1", sha256=content_hash(values))
    write_embeddings(tmp_path / "text.safetensors", TextEmbeddings(values, source))
    return tmp_path / "text.safetensors"


@pytest.fixture
def importing(tmp_path):
    def run(published, text_embeddings, name="teacher", note=lambda _: None):
        file = tmp_path / f"{name}-published.pth"
        torch.save(published, file)
        return import_checkpoint(
            file,
            kind=ModelKind.TEACHER,
            name=name,
            models_dir=tmp_path / "models",
            text_embeddings=text_embeddings,
            architecture=TEACHER.model_dump(mode="json", exclude_unset=True),
            licence="CC BY-NC-SA 4.0",
            note=note,
        )

    return run


def expected_score(published, embeddings, pixels):
    """Load by names alone, without anything of the importer."""
    values = load_file(embeddings)["embeddings"]
    network = build_teacher(TEACHER.model_copy(update={"prompt_count": len(values)})).eval()
    tensors = {name: tensor for name, tensor in published.items() if name in network.state_dict()}
    network.load_state_dict(tensors | {"prompts.embeddings": values})
    with torch.inference_mode():
        return network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)[0].numpy()


@pytest.mark.parametrize("rename", [dict, with_old_attention])
def test_old_and_new_names_of_the_vae_give_the_same_scores(tmp_path, importing, published, embeddings, rename):
    published_names = rename(published)
    assert (published_names.keys() == published.keys()) == (rename is dict)
    card = importing(published_names, embeddings)
    assert not card.channels_last  # the memory format that the golden values were met in
    assert card.architecture["prompt_count"] == COUNT
    assert card.architecture["text"]["prompts"] == "published-1485"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    scores = load_scorer("teacher", models_dir=tmp_path / "models", device="cpu").score(pixels)
    np.testing.assert_allclose(scores, expected_score(published, embeddings, pixels), rtol=1e-4, atol=1e-5)


def test_what_no_score_uses_is_left_out_and_remarks(tmp_path, importing, published, embeddings):
    remarks = []
    card = importing(published, embeddings, note=remarks.append)
    (left_out,) = [line for line in remarks if line.startswith("left out")]
    for part in ("vae.decoder", "vae.post_quant_conv", "QFD.bnc1", "QFD.classifier_dist"):
        assert part in left_out
        assert part in card.notes
    kept = load_file(tmp_path / "models" / card.weights)
    assert not any(name.startswith(("vae.decoder.", "QFD.bnc1.")) for name in kept)


def test_the_unets_last_layers_may_be_absent(tmp_path, importing, published, embeddings):
    whole = importing(published, embeddings, "whole")
    ends = ("unet.conv_out.", "unet.conv_norm_out.")
    remarks = []
    importing({n: t for n, t in published.items() if not n.startswith(ends)}, embeddings, "cut", remarks.append)
    assert any("unet.conv_out" in line and "not in the file" in line for line in remarks)
    pixels = np.full((1, 64, 64, 3), 99, np.uint8)
    scores = [
        load_scorer(name, models_dir=tmp_path / "models", device="cpu").score(pixels) for name in ("whole", "cut")
    ]
    np.testing.assert_array_equal(*scores)
    assert whole.kind is ModelKind.TEACHER


def test_bare_embeddings_are_taken_too(tmp_path, importing, published):
    values = np.random.default_rng(0).normal(size=(COUNT, TEACHER.unet.text_width)).astype(np.float32)
    np.save(tmp_path / "text.npy", values)
    torch.save(torch.from_numpy(values), tmp_path / "text.pt")
    cards = [importing(published, tmp_path / file, name) for file, name in (("text.npy", "a"), ("text.pt", "b"))]
    assert cards[0].sha256 == cards[1].sha256
    assert cards[0].architecture["text"]["prompts"] == "text.npy"


def test_a_pickled_array_of_objects_is_refused(tmp_path, importing, published):
    np.save(tmp_path / "text.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="does not hold an array of numbers"):
        importing(published, tmp_path / "text.npy")


def test_a_teacher_without_embeddings_says_how_to_make_them(importing, published):
    with pytest.raises(InvalidRequest) as raised:
        importing(published, None)
    assert "--text-embeddings" in raised.value.hint


def test_embeddings_of_another_width_are_named(tmp_path, importing, published):
    np.save(tmp_path / "text.npy", np.zeros((COUNT, 5), np.float32))
    with pytest.raises(CheckpointError, match=r"text\.npy: embeddings of width 5, this teacher takes 8"):
        importing(published, tmp_path / "text.npy")
    assert list((tmp_path / "models").iterdir()) == [tmp_path / "models" / ".lock"]


def test_a_students_file_takes_no_embeddings(tmp_path, embeddings):
    save_file({"conv_transpose.weight": torch.zeros(1)}, tmp_path / "student.safetensors")
    with pytest.raises(InvalidRequest, match="takes no text embeddings"):
        import_checkpoint(
            tmp_path / "student.safetensors",
            kind=ModelKind.STUDENT,
            name="student",
            models_dir=tmp_path / "models",
            text_embeddings=embeddings,
            licence="x",
        )
