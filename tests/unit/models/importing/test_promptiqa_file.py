"""PromptIQA's checkpoint as it is published: a training dict, every name with `module.` before it."""

import torch
from support.promptiqa import TINY, tiny_promptiqa
from support.published import as_trained_in_parallel

from dpiqa.models.cards import find_card, verify
from dpiqa.models.checkpoint import load_tensors
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.types import ModelKind


def test_it_is_imported(tmp_path):
    published = tiny_promptiqa().state_dict()
    torch.save(as_trained_in_parallel(published), tmp_path / "best_model.pth.tar")
    remarks = []
    import_checkpoint(
        tmp_path / "best_model.pth.tar",
        kind=ModelKind.PROMPTIQA,
        name="prompted",
        models_dir=tmp_path / "models",
        architecture=TINY.model_dump(mode="json"),
        licence="MIT",
        note=remarks.append,
    )
    card = find_card("prompted", tmp_path / "models")
    verify(card, tmp_path / "models")
    assert card.preprocessing == TINY.preprocessing
    assert "requirement" in card.score_scale
    kept = load_tensors(tmp_path / "models" / card.weights)
    assert kept.keys() == published.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in published.items())
    assert any("a test image scored" in line for line in remarks)
