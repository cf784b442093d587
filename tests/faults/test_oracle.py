"""The oracle of the fault suite notices what it must."""

import pytest

WRONGS = {
    "a wrong score": "UPDATE results SET score = score + 0.01 WHERE key = '00003.png' RETURNING 1",
    "a result of other bytes": "UPDATE results SET etag = 'other' WHERE key = '00003.png' RETURNING 1",
    "a provisional result": "UPDATE results SET status = 'provisional' WHERE key = '00003.png' RETURNING 1",
    "a lost result": "DELETE FROM results WHERE key = '00003.png' RETURNING 1",
    "a count": "INSERT INTO count_changes (job_id, stage, state, reason, n) "
    "SELECT job_id, stage, state, '', 1 FROM items LIMIT 1 RETURNING 1",
}


def test_each_wrong_is_noticed(story):
    story.keep("listener", "student", "teacher")
    story.upload(10)
    story.finish()
    for kept in story.kept.values():
        kept.process.stop()
    for wrong, statement in WRONGS.items():
        connection = story.engine.connect()
        with connection, connection.begin() as change:
            story.rows = lambda query, **values: connection.exec_driver_sql(query, values or None).all()  # noqa: B023
            assert story.rows(statement), wrong
            with pytest.raises(AssertionError):
                story.assert_holds({}, {})
            change.rollback()
        del story.rows
    story.assert_holds({}, {})


def test_a_restart_and_a_password_in_a_log_are_noticed(story):
    story.keep("listener")
    story.kept["listener"].ends.append(1)
    with pytest.raises(AssertionError, match="restarts of listener"):
        story.assert_holds({}, {})
    story.kept["listener"].ends.clear()
    story.assert_holds({}, {})
    password = story.settings.require_database_url().partition("dpiqa:")[2].partition("@")[0]
    (story.folder / "other.log").write_text(f"connecting with {password}")
    with pytest.raises(AssertionError, match="no secret in any log"):
        story.assert_holds({}, {})
