"""`dpiqa models list`, `show` and `verify`."""

import json


def test_models(run):
    listed = json.loads(run("models", "list", "--json").stdout)
    assert "brightness" in {card["name"] for card in listed}
    result = json.loads(run("models", "show", "brightness", "--json").stdout)
    assert result["scorer_id"].startswith("brightness:")
    assert "Apache-2.0" in run("models", "show", "brightness").stdout
    assert run("models", "verify", "brightness").exit_code == 0


def test_a_damaged_model_is_found(run, tmp_path, monkeypatch):
    card = json.loads(run("models", "show", "brightness", "--json").stdout)
    del card["scorer_id"], card["stale_figures"]
    card |= {"name": "mine", "kind": "student", "weights": "mine.safetensors"}
    (tmp_path / "mine.json").write_text(json.dumps(card))
    (tmp_path / "mine.safetensors").write_bytes(b"other bytes")
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(tmp_path))
    result = run("models", "verify", "mine", "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)
    assert (finding["ok"], "sha256" in finding["message"]) == (False, True)
    assert finding["hint"]
