import pytest
import torch
from safetensors.torch import load_file, save_file

from dpiqa.errors import CheckpointError
from dpiqa.models.prompts import TextPooling
from dpiqa.models.text.embeddings import TextEmbeddings, TextSource, content_hash, read_embeddings, write_embeddings


@pytest.fixture
def embeddings():
    values = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    source = TextSource(
        prompts="mine",
        encoder="tiny@0123456789ab",
        pooling=TextPooling.TOKEN_MEAN,
        reconstructed=True,
        sha256=content_hash(values),
        made_from="0" * 64,
    )
    return TextEmbeddings(values, source)


@pytest.fixture
def path(tmp_path, embeddings):
    path = tmp_path / "new" / "mine.safetensors"
    write_embeddings(path, embeddings)
    return path


def test_what_was_written_is_read_with_all_that_is_known_about_it(path, embeddings):
    loaded = read_embeddings(path)
    assert torch.equal(loaded.values, embeddings.values)
    assert loaded.source == embeddings.source
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_content_hash_knows_values_and_shape_but_not_the_layout(embeddings):
    values = embeddings.values
    assert content_hash(values.T.contiguous().T) == content_hash(values)
    assert content_hash(values.double()) == content_hash(values)
    assert content_hash(values.reshape(8, 6)) != content_hash(values)
    assert content_hash(values + 1e-6) != content_hash(values)


def test_embeddings_of_somebody_else_are_a_bare_tensor_of_unknown_source(tmp_path, embeddings):
    path = tmp_path / "quality_embeddings.pth"
    torch.save(embeddings.values.half(), path)
    loaded = read_embeddings(path)
    assert loaded.source == TextSource(prompts=path.name, sha256=content_hash(embeddings.values.half()))
    assert loaded.source.pooling is None
    assert loaded.values.dtype == torch.float32


def rewrite(path, tensors=None, **metadata):
    usual = {"prompts": "mine", "sha256": content_hash(load_file(path)["embeddings"])}
    save_file(tensors or load_file(path), path, metadata={k: v for k, v in (usual | metadata).items() if v})


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: path.unlink(), "there are no text embeddings"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "not a safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"), "not those its sha256"),
        (lambda path: rewrite(path, sha256=""), "does not say its sha256"),
        (lambda path: rewrite(path, prompts=""), "does not say its prompts"),
        (lambda path: rewrite(path, {"text": torch.zeros(6, 8)}, sha256="0" * 64), "holds text"),
        (lambda path: rewrite(path, {"embeddings": torch.zeros(6)}), r"found \(6,\)"),
        (lambda path: rewrite(path, {"embeddings": torch.zeros(6, 8, dtype=torch.int32)}), "expected a float tensor"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_says_why(path, damage, complaint):
    damage(path)
    with pytest.raises(CheckpointError, match=complaint) as raised:
        read_embeddings(path)
    assert path.name in str(raised.value)


def test_numbers_that_are_none_are_refused(tmp_path):
    path = tmp_path / "broken.pth"
    torch.save(torch.full((2, 3), float("nan")), path)
    with pytest.raises(CheckpointError, match="not finite"):
        read_embeddings(path)


@pytest.mark.parametrize("content", [b"", b"no pickle", None])
def test_a_pth_file_is_read_as_tensors_and_nothing_else(tmp_path, content):
    path = tmp_path / "text.pth"
    if content is None:
        torch.save({"embeddings": path}, path)  # an object whose class would have to be imported
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"text\.pth"):
        read_embeddings(path)
