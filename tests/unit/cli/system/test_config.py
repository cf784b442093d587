"""`dpiqa config show`."""


def test_config_masks_secrets(run, monkeypatch):
    monkeypatch.setenv("DPIQA_DATABASE_URL", "postgresql://me:hush-1@host/db")
    monkeypatch.setenv("DPIQA_BROKER_URL", "redis://:hush-2@host:6379/0")
    monkeypatch.setenv("DPIQA_API_KEY", "hush-3")
    for words in (["config", "show"], ["config", "show", "--json"]):
        result = run(*words).stdout
        assert "hush" not in result
        assert "me:***@host" in result
