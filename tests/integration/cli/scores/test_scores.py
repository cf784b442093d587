"""`dpiqa scores` and `lookup`."""

import json

import pyarrow.parquet


def rows(result):
    assert result.exit_code in (0, 1), result.stderr
    return json.loads(result.stdout)


def test_scores_stream_every_page(run, scored):
    listed = rows(run("scores", "--json"))
    assert len(listed) == 1100
    assert [row["score"] for row in listed] == sorted(row["score"] for row in listed)
    assert len({row["key"] for row in listed}) == 1100
    assert run("scores", "-o", "all.parquet").exit_code == 0
    assert pyarrow.parquet.read_table("all.parquet").num_rows == 1100


def test_scores_filter_and_sort(run, scored, system):
    assert [row["score"] for row in rows(run("scores", "--max", "0.002", "--json"))] == [0.0, 0.001, 0.002]
    best = rows(run("scores", "--sort", "-score", "--limit", "2", "--json"))
    assert [row["score"] for row in best] == [1.099, 1.098]
    assert len(rows(run("scores", "--job", "latest", "--prefix", "k/001", "--json"))) == 10
    assert rows(run("scores", "--bucket", "elsewhere", "--json")) == []
    assert rows(run("scores", "--profile", "default", "--json")) == []
    assert len(rows(run("scores", "--job", scored.id, "--profile", "smoke", "--model", "brightness", "--json"))) == 899
    assert len(rows(run("scores", "--min", "0.55", "--max", "0.55", "--json"))) == 201


def test_worst_and_best_shares(run, scored):
    worst = run("scores", "--worst", "5%", "--json")
    assert len(rows(worst)) == 55
    assert "the worst 5%: scores of at most 0.0540" in worst.stderr
    best = rows(run("scores", "--best", "1%", "--json"))
    assert 11 <= len(best) <= 12
    assert best[0]["score"] == 1.099
    assert run("scores", "--worst", "5%", "--best", "5%").exit_code == 2
    assert run("scores", "--worst", "5%", "--bucket", "elsewhere").exit_code == 4


def test_a_table_says_that_there_are_more(run, scored):
    result = run("scores")
    assert result.stdout.count("s3://") == 20
    assert "the first 20; there are more" in result.stderr


def test_lookup_tells_where_a_score_comes_from(run, scored, system):
    document = rows(run("lookup", f"s3://{system.name}/k/0500.png", "--json"))
    assert document["results"][0]["score"] == 0.55
    assert {(score["model"].partition(":")[0], score["score"]) for score in document["scores"]} == {
        ("brightness", 0.5),
        ("judge", 0.55),
    }
    assert "teacher" in run("lookup", f"s3://{system.name}/k/0500.png").stdout
    assert run("lookup", f"s3://{system.name}/k/nope.png").exit_code == 4
