"""Models that can be pulled, and their addresses."""

import pytest
from huggingface_hub import constants

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.models.catalogue.entries import Hosts, catalogue, find_entry, find_sources
from dpiqa.types import ModelKind

HOSTS = Hosts("https://drive.example/", "https://hub.example")


def urls(name, hosts=HOSTS, **options):
    return [source.url for source in find_sources(find_entry(name), hosts, **options)]


def test_the_published_checkpoints_are_all_there():
    published = [entry for entry in catalogue().values() if entry.drive]
    for kind in ("teacher", "student"):
        names = {entry.name for entry in published if entry.kind is ModelKind(kind)}
        assert names == {f"dpiqa-{kind}-{data}" for data in ("koniq", "clive", "livefb", "spaq")}
    assert len({entry.drive for entry in published}) == 9
    assert all("split unknown" in entry.trained_on for entry in published)
    assert all(entry.terms.licence and entry.terms.licence_url for entry in catalogue().values())
    assert not any("runwayml" in (entry.hub or "") for entry in catalogue().values())


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(NotFound) as raised:
        find_entry("koniq")
    assert "dpiqa-student-koniq" in raised.value.hint


def test_drive_and_hub_have_their_addresses():
    (url,) = urls("dpiqa-student-koniq")
    assert url == "https://drive.example/download?id=1j8P0eoJDLWbQgjZ4jIat8ZScgDaT1O11&export=download&confirm=t"
    assert urls("promptiqa") == ["https://hub.example/Zevin2023/PromptIQA/resolve/main/best_model.pth.tar"]
    (first, *_) = urls("sd15", Hosts("x", None))
    assert first == f"{constants.ENDPOINT}/stable-diffusion-v1-5/stable-diffusion-v1-5/resolve/main/vae/config.json"


def test_another_source_replaces_them(tmp_path):
    assert urls("dpiqa-student-koniq", source="http://mirror/a.pth") == ["http://mirror/a.pth"]
    (url,) = urls("promptiqa", source="http://mirror/", revision="v2")
    assert url == "http://mirror/Zevin2023/PromptIQA/resolve/v2/best_model.pth.tar"
    assert urls("promptiqa", source="me/mine") == ["https://hub.example/me/mine/resolve/main/best_model.pth.tar"]
    (tmp_path / "best_model.pth.tar").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "best_model.pth.tar"):
        (source,) = find_sources(find_entry("promptiqa"), HOSTS, source=str(path))
        assert (source.url, source.path) == ("", tmp_path / "best_model.pth.tar")


def test_the_users_token_is_for_the_users_hub_only():
    entry = find_entry("promptiqa")
    assert find_sources(entry, HOSTS)[0].is_hub
    assert find_sources(entry, HOSTS, source="me/mine")[0].is_hub
    assert not find_sources(entry, HOSTS, source="http://mirror")[0].is_hub
    assert not find_sources(find_entry("dpiqa-student-koniq"), HOSTS)[0].is_hub


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("dpiqa-student-koniq", {"source": "nowhere.pth"}, NotFound, "nowhere.pth does not exist"),
        ("promptiqa", {"source": "/no/such/folder"}, NotFound, "/no/such/folder does not exist"),
        ("promptiqa", {"source": "."}, NotFound, "best_model.pth.tar"),
        ("sd15", {"source": __file__}, InvalidRequest, "4 files"),
        ("dpiqa-student-koniq", {"revision": "v2"}, InvalidRequest, "no revisions"),
    ],
)
def test_a_source_that_is_none_is_told(tmp_path, monkeypatch, name, options, error, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        urls(name, **options)
