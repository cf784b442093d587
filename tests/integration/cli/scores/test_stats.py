"""`dpiqa stats`, `scorers`, `workers` and `db rollups`; items by reason."""

import json


def parsed(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_stats(run, scored, system):
    found = parsed(run("stats", "--bucket", system.name, "--json"))
    assert found["n"] == 1100
    assert abs(found["mean"] - 0.5586) <= 0.0006
    assert abs(found["quantiles"]["p5"] - 0.055) <= 0.001
    assert [(group["name"], group["n"]) for group in parsed(run("stats", "--by", "bucket", "--json"))["groups"]] == [
        (system.name, 1100)
    ]
    by_reason = parsed(run("stats", "--job", "latest", "--by", "reason", "--json"))
    assert [(group["name"], group["n"]) for group in by_reason["groups"]] == [("truncated", 1)]
    table = run("stats", "--job", "latest", "--by", "state")
    assert table.exit_code == 0
    assert "by state" in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert run("stats", "--by", "reason").exit_code == 2
    assert run("stats", "--profile", "smoke", "--requirement", "r").exit_code == 2


def test_scorers_and_workers(run, scored):
    listed = parsed(run("scorers", "--json"))
    assert {(row["model"], row["n_results"]) for row in listed} == {("brightness", 899), ("judge", 201)}
    assert json.loads(run("scorers", listed[0]["id"]).stdout)["name"] == listed[0]["model"]
    assert "brightness" in run("scorers").stdout
    assert run("scorers", "nobody").exit_code == 4
    assert parsed(run("workers", "--json")) == []


def test_rollups_are_counted_again(run, scored, ledger):
    ledger.sql("TRUNCATE result_changes, result_counts, result_groups")
    assert parsed(run("stats", "--json"))["n"] == 0
    assert run("db", "rollups", "--rebuild").exit_code == 0
    assert parsed(run("stats", "--json"))["n"] == 1100
    assert run("db", "rollups").exit_code == 0


def test_items_by_reason(run, scored):
    [row] = parsed(run("items", "latest", "--reason", "truncated", "--json"))
    assert (row["state"], row["key"]) == ("rejected", "k/1100.png")
    assert run("items", "latest", "--reason", "no_such_reason").exit_code == 2
