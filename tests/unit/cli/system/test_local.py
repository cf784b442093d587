"""`dpiqa local` where nothing runs."""

import json


def test_local_status_where_nothing_runs(run):
    result = run("local", "status", "--json")
    assert (result.exit_code, json.loads(result.stdout)["running"]) == (1, False)
    assert json.loads(run("local", "down", "--json").stdout) == {"stopped": False}
