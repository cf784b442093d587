"""A user's mistake ends in one line with a hint, and in a stable exit code."""

import socket

import pytest
from typer.testing import CliRunner

from dpiqa import errors
from dpiqa.cli.support.groups import ErrorLineGroup, LazyCommand, new_group

CODES = [
    (errors.StoreUnavailable("x"), 3),
    (errors.DatabaseUnavailable("x"), 3),
    (errors.BrokerUnavailable("x"), 3),
    (errors.NotFound("x"), 4),
    (errors.ObjectGone("x"), 4),
    (errors.InvalidRequest("x"), 2),
    (errors.Conflict("x"), 2),
    (errors.ConfigurationError("x"), 78),
    (errors.CheckpointError("x"), 78),
    (errors.DpiqaError("x"), 1),
    (KeyboardInterrupt(), 130),
]


def failing(error):
    app = new_group("app", "", ["app fail"], cls=ErrorLineGroup)

    @app.command()
    def fail() -> None:
        raise error

    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["fail"])


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: type(value).__name__)
def test_exit_codes(error, code):
    assert failing(error).exit_code == code


def test_one_line_with_the_hint_on_stderr():
    result = failing(errors.NotFound("no job 7", hint="see `dpiqa jobs`"))
    assert result.stderr == "error: no job 7 / hint: see `dpiqa jobs`\n"
    assert result.stdout == ""


def test_a_key_cannot_act_on_the_terminal():
    result = failing(errors.NotFound("no \x1b[31m[bold]key\r\n\x9b\u202e", hint=""))
    assert result.stderr == "error: no \\x1b[31m[bold]key\\r\\n\\x9b\\u202e\n"


def test_a_fault_of_the_program_is_not_hidden():
    result = failing(RuntimeError("a bug"))
    assert isinstance(result.exception, RuntimeError)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["score", "nowhere.jpg", "--model", "brightness"], 4, "nowhere.jpg does not exist"),
        (["score", ".", "--model", "brightness"], 4, "no images are in"),
        (["score", "s3://a?b/x", "--model", "brightness"], 2, "'a?b' is not a bucket name"),
        (["score", "x.jpg", "s3://bucket/x", "--model", "brightness"], 2, "cannot be mixed"),
        (["score", "x.jpg", "--model", "nope"], 4, "known models"),
        (["score", "x.jpg", "--profile", "nope"], 4, "smoke@1"),
        (["score", "x.jpg", "--profile", "smoke", "--model", "brightness"], 2, "cannot be combined"),
        (["score", "x.jpg", "--model", "brightness", "-o", "x.doc"], 2, ".csv, .jsonl, .parquet"),
        (["score", "x.jpg", "--model", "brightness", "-o", "no/such/x.csv"], 2, "does not exist"),
        (["submit", "http://bucket/x"], 2, "s3://bucket/prefix"),
        (["submit", "s3://bucket/x"], 78, "dpiqa local up"),
        (["jobs"], 78, "dpiqa local up"),
        (["follow", "17"], 2, "first 6 or more digits"),
        (["scores", "--worst", "5"], 78, "DPIQA_DATABASE_URL"),
        (["scores", "--min", "0.5", "--max", "0.1"], 2, "swap them"),
        (["scores", "--min", "nan"], 2, "finite"),
        (["db", "upgrade"], 78, "DPIQA_DATABASE_URL"),
        (["models", "show", "nope"], 4, "known models"),
        (["models", "verify", "nope"], 4, "known models"),
        (["profiles", "show", "nope"], 4, "known: "),
        (["listen"], 78, "DPIQA_QUEUE_URL"),
        (["flower"], 78, "DPIQA_BROKER_URL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(run, words, code, named):
    result = run(*words)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.stderr
    assert result.stderr.startswith("error: ")
    assert named in result.stderr
    assert " / hint: " in result.stderr


def test_a_missing_library_is_one_line_that_names_the_install():
    result = failing(ModuleNotFoundError("No module named 'torch'", name="torch.nn"))
    assert result.exit_code == 78
    assert (
        result.stderr == "error: dpiqa fail needs torch, which is not installed / hint: pip install 'dpiqa[models]'\n"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/data/x"), "error: /data/x: Permission denied"),
        (OSError(28, "No space left on device"), "error: the output: No space left on device"),
    ],
    ids=["permission", "full disk"],
)
def test_a_file_that_cannot_be_used_is_one_line(error, message):
    result = failing(error)
    assert (result.exit_code, result.stderr.count("\n")) == (78, 1)
    assert result.stderr.startswith(message)


def test_a_library_that_is_missing_where_a_command_is_imported():
    def load():
        raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")

    app = new_group("app", "", ["app fail"], cls=ErrorLineGroup)
    app.command("fail", cls=LazyCommand, help="Fail.")(load)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["fail"])
    assert result.exit_code == 78
    assert result.stderr == "error: app fail needs uvicorn, which is not installed / hint: pip install 'dpiqa[api]'\n"


def test_a_missing_module_of_ours_is_a_bug():
    result = failing(ModuleNotFoundError("No module named 'dpiqa.nowhere'", name="dpiqa.nowhere"))
    assert isinstance(result.exception, ModuleNotFoundError)


@pytest.mark.parametrize(
    "words",
    [["nope"], ["worker", "janitor"], ["scores", "--sort", "name"], ["scores", "--limit", "0"], ["api", "--port", "x"]],
)
def test_usage(run, words):
    assert run(*words).exit_code == 2


def test_a_wrong_setting_is_named(run, monkeypatch):
    monkeypatch.setenv("DPIQA_BATCH_SIZE", "many")
    result = run("config", "show")
    assert result.exit_code == 78
    assert "DPIQA_BATCH_SIZE" in result.stderr


@pytest.mark.parametrize(
    ("url", "code"),
    [("mysql://host/db", 78), ("postgresql://u:hush@127.0.0.1:1/db?connect_timeout=2", 3)],
    ids=["not Postgres", "nobody there"],
)
def test_a_wrong_database(run, monkeypatch, url, code):
    monkeypatch.setenv("DPIQA_DATABASE_URL", url)
    result = run("jobs")
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.stderr
    assert "hush" not in result.stderr


@pytest.mark.parametrize("words", [("scores", "--route", "x"), ("jobs", "retry", "latest", "--reason", "x")])
def test_a_wrong_choice_is_said_without_names_of_the_library(run, words):
    result = run(*words)
    assert result.exit_code == 2
    assert "'x' is not one of" in result.stderr
    assert "Value error" not in result.stderr


def test_a_variable_that_is_no_setting_is_named_once_with_the_nearest_one(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPIQA_BATCHSIZE", "3")
    monkeypatch.setenv("DPIQA_WEB_SERVICE_HOST", "10.0.0.1")  # Kubernetes, for a service named dpiqa-web
    monkeypatch.setenv("DPIQA_WEB_PORT", "tcp://10.0.0.1:80")
    (tmp_path / ".env").write_text("DPIQA_DEVISE=cpu\nOTHER=1\n")
    result = run("config", "show")
    assert result.exit_code == 0
    assert [line for line in result.stderr.splitlines() if "warning" in line] == [
        "warning: DPIQA_BATCHSIZE is not a setting and has no effect: did you mean DPIQA_BATCH_SIZE?",
        "warning: DPIQA_DEVISE is not a setting and has no effect: did you mean DPIQA_DEVICE?",
    ]


def test_an_import_of_a_missing_file_is_not_found(run, tmp_path):
    result = run("models", "import", tmp_path / "gone.pth", "--kind", "student", "--name", "mine")
    assert result.exit_code == 4
    assert "gone.pth" in result.stderr


def test_the_api_refuses_a_taken_port_in_one_line(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("api", "--port", taken.getsockname()[1])
    assert result.exit_code == 78
    assert result.stderr.startswith("error: the API cannot be served on 127.0.0.1")
    assert result.stderr.count("\n") == 1
