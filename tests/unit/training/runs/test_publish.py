"""Origins of weights in cards and records."""

import pytest

from dpiqa.models.cards import find_card, sha256_of
from dpiqa.training.runs.publish import origin, origins


def test_origins_are_names_and_digests(tmp_path):
    card = find_card("bundled-tiny")
    file = tmp_path / "vae.safetensors"
    file.write_bytes(b"weights")
    digest = sha256_of(file)
    assert origins({"teacher": card, "vae": file, "guide": None}) == {
        "teacher": {"model": card.name, "sha256": card.sha256, "command": card.figures["training"]["command"]},
        "vae": {"file": "vae.safetensors", "sha256": digest},
    }


@pytest.mark.parametrize(
    ("record", "command"),
    [
        ('{"sha256": "%s", "command": "dpiqa train vae"}', "dpiqa train vae"),
        ('{"sha256": "of others", "command": "dpiqa train vae"}', None),
        ('{"command": "dpiqa train vae"}', None),
        ("[1]", None),
        ("no JSON", None),
    ],
)
def test_a_record_counts_only_for_the_bytes_it_was_written_for(tmp_path, record, command):
    file = tmp_path / "vae.safetensors"
    file.write_bytes(b"weights")
    file.with_suffix(".json").write_text(record.replace("%s", sha256_of(file)))
    assert origin(file).get("command") == command
