"""`dpiqa.Client` against a running service: an API that demands a key, workers, and Postgres behind a proxy."""

import pytest
from support.photos import png
from support.proxy import Proxy

import dpiqa
from dpiqa import errors
from dpiqa.access import Grants
from dpiqa.storage.api_keys import KeyRequest, create_key
from dpiqa.storage.engine import transaction
from dpiqa.types import KeyScope

KEY = "bootstrap-key-of-the-client-tests-0123456789"
LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture
def postgres_proxy(postgres_server):
    """Give a switch between the API and Postgres."""
    proxy = Proxy(postgres_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def service(make_system, postgres_proxy, database_url):
    """Give a system with an API, its `url` and its `api_process`."""
    system = make_system(api_key=KEY)
    system.api_process, system.url = system.api(DPIQA_DATABASE_URL=postgres_proxy.through(database_url))
    return system


def test_a_program_submits_waits_and_reads_scores(service, s3, tmp_path):
    for number, level in enumerate(LEVELS):
        s3.put(f"in/{number}.png", png(level))
    s3.put("in/broken.jpg", b"\xff\xd8\xff\xe0 not a picture")
    service.worker("student")
    service.worker("teacher")
    with dpiqa.Client(service.url, KEY) as client:
        job = client.submit_job(f"s3://{s3.name}/in/", idempotency_key="the-archive")
        assert client.submit_job(f"s3://{s3.name}/in/", idempotency_key="the-archive").id == job.id
        *_, last = client.follow_job(job.id)
        assert (last.state, last.done, last.total) == ("complete", 4, 4)
        assert last.failures == {"truncated": 1}
        rows = list(client.list_scores(bucket=s3.name))
        assert [row.key for row in rows] == ["in/0.png", "in/1.png", "in/2.png"]
        assert [row.score for row in rows] == pytest.approx(LEVELS, abs=0.01)
        assert [row.key for row in client.list_scores(bucket=s3.name, best="30%")] == ["in/2.png"]
        (rejected,) = client.list_job_items(job.id, state="rejected")
        assert rejected.key == "in/broken.jpg"
        assert client.lookup_image(s3.name, "in/broken.jpg").items[0].reason == "truncated"
        assert client.get_stats(bucket=s3.name).n == 3
        table = client.export_scores(tmp_path / "scores.csv", bucket=s3.name).read_text()
        assert table.count("\n") == 4  # and the names of the columns


def test_each_problem_of_the_service_is_its_documented_error(service, s3, postgres_proxy):
    job = service.submit()
    with transaction(service.engine) as c:
        elsewhere = KeyRequest(name="reader", scopes=[KeyScope.READ], grants=Grants.of(["s3://another/"]))
        _, reader_key = create_key(c, elsewhere)
    with dpiqa.Client(service.url, "not-a-key") as stranger, pytest.raises(errors.Forbidden, match="key"):
        stranger.get_job(job.id)
    with dpiqa.Client(service.url, reader_key) as reader:
        with pytest.raises(errors.Forbidden, match="submit"):
            reader.submit_job(f"s3://{s3.name}/")
        with pytest.raises(errors.NotFound):
            reader.get_job(job.id)  # beyond its grants
    with dpiqa.Client(service.url, KEY) as client:
        assert client.get_job(job.id).id == job.id
        with pytest.raises(errors.NotFound):
            client.get_job("00000000-0000-0000-0000-000000000000")
        with pytest.raises(errors.InvalidRequest, match="source"):
            client.submit_job("a bucket")
        client.submit_job(f"s3://{s3.name}/in/", idempotency_key="the-archive")
        with pytest.raises(errors.Conflict):
            client.submit_job(f"s3://{s3.name}/", idempotency_key="the-archive")

        postgres_proxy.down()
        with pytest.raises(errors.DatabaseUnavailable) as raised:
            client.pause_job(job.id)
        assert raised.value.hint
        with pytest.raises(errors.Unavailable, match="database"):
            client.get_readiness()
        service.api_process.stop()
        with pytest.raises(errors.Unavailable, match="does not answer"):
            client.pause_job(job.id)
