"""Origins of weights in cards and records."""

import pytest

from dpiqa.models.cards import find_card, sha256_of
from dpiqa.training.runs.publish import origin, origins


def test_origins_are_names_digests_commands_and_their_own_origins(tmp_path):
    card = find_card("bundled-tiny")
    file = tmp_path / "vae.safetensors"
    file.write_bytes(b"weights")
    digest = sha256_of(file)
    made = {"command": "dpiqa train student", "made_from": {"start": {"model": "first", "sha256": "1" * 64}}}
    start = card.model_copy(update={"figures": {"training": made | {"updates": 3}}})
    teacher = card.model_copy(update={"figures": {"training": "on a Sunday"}})
    assert origins({"teacher": teacher, "start": start, "vae": file, "guide": None}) == {
        "teacher": {"model": card.name, "sha256": card.sha256},
        "start": {"model": card.name, "sha256": card.sha256} | made,
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
