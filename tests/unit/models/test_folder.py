"""A models folder under change: one process at a time, nothing half."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.onnx_files import green_mean

from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound
from dpiqa.models import folder as folders
from dpiqa.models.cards import find_card, verify
from dpiqa.models.folder import (
    add_sections,
    changing,
    check_card,
    publish,
    publish_staged,
    remove_model,
    staging,
)
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.types import ModelKind


def importing(folder, name="older", **options):
    (folder / "student.onnx").write_bytes(green_mean(512))
    models_dir = options.pop("models_dir", folder / "models")
    return import_checkpoint(
        folder / "student.onnx", kind=ModelKind.ONNX, name=name, models_dir=models_dir, licence="x", **options
    )


def test_of_two_imports_under_one_name_one_wins(tmp_path):
    elsewhere = importing(tmp_path, models_dir=tmp_path / "elsewhere")
    models_dir = tmp_path / "models"
    with ThreadPoolExecutor(1) as pool:
        with changing(models_dir), staging(models_dir) as staged:
            second = pool.submit(importing, tmp_path)
            (staged / elsewhere.weights).write_bytes((tmp_path / "elsewhere" / elsewhere.weights).read_bytes())
            publish_staged(elsewhere, staged, models_dir)
        with pytest.raises(InvalidRequest, match="there is already a model called older"):
            second.result(60)
    verify(find_card("older", models_dir), models_dir)
    assert not list(models_dir.glob(".unfinished-*"))


def interrupted(models_dir):
    with changing(models_dir), staging(models_dir) as staged:
        (staged / "half").write_bytes(b"x")
        raise KeyboardInterrupt


def test_a_staging_folder_goes_with_whatever_went_wrong(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_weights_without_a_card_are_no_model_and_in_nobodys_way(tmp_path):
    """The files of a process that is killed between the two moves."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "older.onnx").write_bytes(b"left behind")
    with pytest.raises(NotFound):
        find_card("older", tmp_path / "models")
    card = importing(tmp_path)
    verify(card, tmp_path / "models")


def test_a_removed_model_is_gone_even_if_its_weights_were(tmp_path):
    card = importing(tmp_path)
    (tmp_path / "models" / card.weights).unlink()
    remove_model("older", tmp_path / "models")
    with pytest.raises(NotFound):
        remove_model("older", tmp_path / "models")


def test_a_card_may_not_name_a_file_elsewhere(tmp_path):
    card = importing(tmp_path)
    (tmp_path / "precious.onnx").write_bytes(b"x")
    document = (tmp_path / "models" / "older.json").read_text().replace(card.weights, "../precious.onnx")
    (tmp_path / "models" / "older.json").write_text(document)
    with pytest.raises(ConfigurationError, match="weights"):
        remove_model("older", tmp_path / "models")
    assert (tmp_path / "precious.onnx").exists()


def test_a_finished_model_is_copied_in_and_its_folder_left_as_it_was(tmp_path):
    card = importing(tmp_path, models_dir=tmp_path / "run")
    publish(card, tmp_path / "run", tmp_path / "models")
    verify(find_card("older", tmp_path / "models"), tmp_path / "models")
    verify(find_card("older", tmp_path / "run"), tmp_path / "run")


def test_a_model_is_not_published_while_another_process_changes_the_folder(tmp_path):
    card = importing(tmp_path, models_dir=tmp_path / "run")
    models_dir = tmp_path / "models"
    with ThreadPoolExecutor(1) as pool:
        with changing(models_dir):
            published = pool.submit(publish, card, tmp_path / "run", models_dir)
            with pytest.raises(TimeoutError):
                published.result(0.5)
            assert not (models_dir / "older.json").exists()
        published.result(60)
    assert find_card("older", models_dir) == card


def test_a_card_is_changed_in_its_folder_and_the_weights_stay(models_dir):
    card = find_card("small-student", models_dir)
    add_sections(card, models_dir, {"set val": {"n": 2}})
    add_sections(card, models_dir, {"other val": {"n": 3}})
    card_today = find_card("small-student", models_dir)
    assert card_today.figures == card.figures | {"set val": {"n": 2}, "other val": {"n": 3}}
    assert card_today.scorer_id == card.scorer_id
    assert not list(models_dir.glob(".unfinished*"))


def test_what_could_not_be_written_is_refused_beforehand(models_dir, tmp_path, monkeypatch):
    card = find_card("small-student", models_dir)
    check_card(card, models_dir)
    with pytest.raises(InvalidRequest, match=r"the card of small-student is not in"):
        check_card(card, tmp_path)
    with pytest.raises(InvalidRequest, match="of other weights"):
        check_card(card.model_copy(update={"sha256": "b" * 64}), models_dir)
    with pytest.raises(InvalidRequest) as raised:
        check_card(find_card("bundled-tiny"), models_dir)
    assert "bundled" in raised.value.hint

    def full(*_args, **_kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(folders, "locked_folder", full)
    with pytest.raises(ConfigurationError, match="cannot be written: Read-only file system"):
        check_card(card, models_dir)
