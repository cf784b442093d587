from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from shutil import copytree, ignore_patterns

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from dpiqa.errors import ConfigurationError, DatabaseMisconfigured
from dpiqa.storage import schema, schema_state
from dpiqa.storage.engine import make_engine, transaction

_OBJECTS = text(
    "SELECT 'relation', relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
    "UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
    "UNION ALL SELECT 'trigger', tgname FROM pg_trigger WHERE NOT tgisinternal"
)


@pytest.fixture
def empty(empty_database_url):
    engine = make_engine(empty_database_url)
    yield empty_database_url, engine
    engine.dispose()


def test_up_down_and_up_again_leaves_nothing_and_lacks_nothing(empty):
    url, engine = empty
    schema.upgrade(url)
    with engine.connect() as c:
        full = sorted(map(tuple, c.execute(_OBJECTS)))
    schema.downgrade(url, "base")
    with engine.connect() as c:
        left = {name for _, name in c.execute(_OBJECTS)}
    assert left == {"alembic_version", "alembic_version_pkc"}
    assert schema_state.current(engine) is None
    schema.upgrade(url)
    with engine.connect() as c:
        assert sorted(map(tuple, c.execute(_OBJECTS))) == full
    assert schema_state.current(engine) == schema_state.head()


def test_the_needed_revision_is_the_newest_of_alembic():
    assert schema_state.head() == ScriptDirectory(files("dpiqa.migrations")).get_current_head()


def test_the_tables_are_what_the_migrations_make(engine):
    with engine.connect() as c:
        assert (
            compare_metadata(MigrationContext.configure(c, opts={"compare_server_default": True}), schema.all_tables())
            == []
        )


def test_checks_and_indexes_say_in_the_database_what_the_tables_say(empty, engine):
    """A changed CHECK or index without a migration would pass Alembic's comparison: compare Postgres's own words."""
    _, fresh = empty
    with fresh.begin() as c:
        schema.all_tables().create_all(c)
        words = text(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' "
            "AND connamespace = 'public'::regnamespace "
            "UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
            "AND tablename <> 'alembic_version' "
            "UNION ALL SELECT relname, unnest(reloptions) FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "ORDER BY 1"
        )
        declared = c.execute(words).all()
    with engine.connect() as c:
        assert c.execute(words).all() == declared


def test_every_column_says_what_it_means():
    tables = schema.all_tables().tables
    columns = [column for table in tables.values() for column in table.columns]
    assert [str(column) for column in columns if not column.comment] == []
    assert [name for name, table in tables.items() if not table.comment] == []


def test_many_processes_upgrade_at_once(empty):
    url, engine = empty
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(schema.upgrade, [url] * 4))
    assert schema_state.current(engine) == schema_state.head()


def test_counts_of_items_from_before_the_triggers_are_taken_in(empty):
    url, engine = empty
    schema.upgrade(url, "0001")
    with transaction(engine) as c:
        c.execute(text("INSERT INTO profiles (id, definition) VALUES ('p@1', '{}')"))
        c.execute(
            text(
                "INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue) VALUES "
                "('00000000-0000-0000-0000-000000000001', 'prefix', 'b', '', 'p@1', 'running', 'bulk')"
            )
        )
        c.execute(text("INSERT INTO images (bucket, key, etag, current) VALUES ('b', 'k', 'e', true)"))
        c.execute(
            text(
                "INSERT INTO items (job_id, image_id, stage, state, queue) SELECT j.id, i.id, 'student', 'queued', "
                "'bulk' FROM jobs j, images i"
            )
        )
    schema.upgrade(url)
    with transaction(engine) as c:
        assert c.execute(text("SELECT n FROM job_counts")).scalar_one() == 1


def test_a_database_without_tables_names_the_hint(empty):
    _, engine = empty
    with pytest.raises(DatabaseMisconfigured, match="dpiqa db upgrade"), transaction(engine) as c:
        c.execute(text("SELECT * FROM items"))


def test_a_new_revision_is_numbered_and_follows_the_template(engine, database_url, tmp_path):
    folder = tmp_path / "migrations"
    copytree(files("dpiqa.migrations"), folder, ignore=ignore_patterns("__pycache__"))
    file = schema.new_revision(database_url, "A column for the camera", location=folder)
    assert file.parent == folder / "versions"
    assert file.name == f"{int(schema_state.head()) + 1:04}_a_column_for_the_camera.py"
    text_of_file = file.read_text("utf-8")
    assert "the previous release must still run" in text_of_file
    assert text_of_file.count("    pass\n") == 2  # the tables are those of the database
    assert schema_state.current(engine) == schema_state.head()


def test_a_new_revision_needs_a_database_at_the_newest_one(empty, tmp_path):
    url, _ = empty
    folder = tmp_path / "migrations"
    copytree(files("dpiqa.migrations"), folder, ignore=ignore_patterns("__pycache__"))
    with pytest.raises(ConfigurationError, match="db upgrade"):
        schema.new_revision(url, "too early", location=folder)
