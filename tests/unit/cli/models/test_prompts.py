"""`dpiqa models prompts` and `embed-text`: from words to what a teacher is conditioned on."""

import json

import numpy as np
import pytest
import torch
from support.clip import WIDTH, write_tiny_clip, write_tiny_diffusion_text
from support.published import TEACHER, teacher_state_dict

from dpiqa.models.loading import load_scorer
from dpiqa.models.prompts import TextPooling, prompt_table
from dpiqa.models.text.embeddings import read_embeddings

TABLE = """
template = "{quality} {scene} with {distortion}"
qualities = ["bad", "good"]
scenes = ["cat", "dog"]
distortions = ["blur", "noise", "haze"]
"""


@pytest.fixture
def models_dir(monkeypatch, tmp_path):
    folder = tmp_path / "models"
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(folder))
    folder.mkdir()
    return folder


def test_the_tables_are_listed_with_what_is_a_guess(run):
    listed = run("models", "prompts").stdout
    for words in ("small-90", "published-1485", "5 x 9 x 33", "paper-1925", "reconstructed: "):
        assert words in listed
    assert json.loads(run("models", "prompts", "--json").stdout)["paper-1925"]["reconstructed"] is True


def test_the_texts_of_a_table_are_printed_in_the_order_of_their_embeddings(run):
    texts = prompt_table("published-1485").texts()
    assert run("models", "prompts", "published-1485").stdout.splitlines() == texts
    assert json.loads(run("models", "prompts", "published-1485", "--json").stdout) == texts


def test_a_table_of_ones_own_is_embedded_once_and_copied_to_the_output(run, models_dir, tmp_path):
    write_tiny_clip(tmp_path / "clip")
    table = tmp_path / "mine.toml"
    table.write_text(TABLE)
    words = ("models", "embed-text", "--table", table, "--encoder", "clip", "--device", "cpu", "--json")
    ended = run(*words, "--output", "text.safetensors")
    assert ended.exit_code == 0, ended.output
    document = json.loads(ended.stdout)
    assert (document["file"], document["shape"], document["prompts"]) == ("text.safetensors", [12, WIDTH], "mine.toml")
    copy = read_embeddings(tmp_path / "text.safetensors")
    assert (copy.source.pooling, copy.source.sha256) == (TextPooling.PROJECTED, document["sha256"])
    (file,) = (models_dir / "text-embeddings").iterdir()
    written_at = file.stat().st_mtime_ns
    again = json.loads(run(*words).stdout)
    assert (again["file"], again["sha256"]) == (str(file), document["sha256"])
    assert file.stat().st_mtime_ns == written_at


def test_the_papers_prompts_go_through_stable_diffusions_encoder_with_a_warning(run, models_dir, tmp_path):
    write_tiny_diffusion_text(tmp_path / "sd")
    ended = run("models", "embed-text", "--table", "paper-1925", "--encoder", "sd", "--device", "cpu", "--json")
    assert ended.exit_code == 0, ended.output
    document = json.loads(ended.stdout)
    assert (document["shape"], document["pooling"], document["reconstructed"]) == ([1925, WIDTH], "token-mean", True)
    assert "paper-1925 is reconstructed" in ended.stderr


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("--table", "large"), 4, "published-1485"),
        (("--table", "mine.toml"), 2, "mine.toml"),
        (("--table", "published-1485"), 4, "dpiqa models pull clip-vit-l14"),
        (("--table", "paper-1925"), 4, "dpiqa models pull sd15-text"),
        (("--table", "published-1485", "--encoder", "nowhere"), 4, "the folder nowhere does not exist"),
        (("--table", "published-1485", "--encoder", "models"), 78, "does not hold a text encoder"),
    ],
)
def test_what_is_missing_is_named_with_its_hint(run, models_dir, words, code, complaint):
    ended = run("models", "embed-text", *words)
    assert ended.exit_code == code
    assert complaint in " ".join(ended.stderr.split())


def test_a_published_teachers_card_says_which_prompts_it_was_given(run, models_dir, tmp_path):
    write_tiny_clip(tmp_path / "clip")
    (tmp_path / "words.toml").write_text(TABLE)
    (tmp_path / "others.toml").write_text(TABLE.replace("haze", "rain"))
    torch.save(teacher_state_dict(), tmp_path / "teacher.pth")
    (tmp_path / "sizes.json").write_text(TEACHER.model_dump_json(exclude_unset=True))
    for table in ("words", "others"):
        embedding = (
            "--table",
            f"{table}.toml",
            "--encoder",
            "clip",
            "--device",
            "cpu",
            "--output",
            f"{table}.safetensors",
        )
        assert run("models", "embed-text", *embedding).exit_code == 0
        importing = ("teacher.pth", "--kind", "teacher", "--architecture", "sizes.json", "--licence", "none")
        texts = ("--text-embeddings", f"{table}.safetensors")
        ended = run("models", "import", *importing, *texts, "--name", table)
        assert ended.exit_code == 0, ended.output
    card = json.loads(run("models", "show", "words", "--json").stdout)
    source = read_embeddings(tmp_path / "words.safetensors").source
    assert card["architecture"]["text"] == source.model_dump(mode="json")
    assert (source.prompts, source.encoder[:5]) == ("words.toml", "clip@")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    words, others = (load_scorer(name, models_dir=models_dir, device="cpu") for name in ("words", "others"))
    assert words.card.sha256 != others.card.sha256
    assert words.score(pixels) != others.score(pixels)
