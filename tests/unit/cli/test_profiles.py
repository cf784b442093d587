"""`dpiqa profiles`."""

import json


def test_profiles(run):
    listed = json.loads(run("profiles", "list", "--json").stdout)
    assert {"default", "smoke", "student-only", "tiny", "with-teacher"} <= {profile["name"] for profile in listed}
    assert "0.5 +- 0.1" in run("profiles", "show", "smoke").stdout
