"""Requests and answers through the client that `openapi-python-client` generated: run by `.ci/api_clients.py`."""

import json
import sys

import httpx
from dpiqa_client import AuthenticatedClient, Client, models
from dpiqa_client.api.health import get_health
from dpiqa_client.api.jobs import get_job, list_jobs, submit_job

with open("openapi.json", encoding="utf-8") as file:  # noqa: PTH123 - one line of a script
    EXAMPLES = {name: model.get("examples") for name, model in json.load(file)["components"]["schemas"].items()}
README = json.loads(sys.argv[1])
sent = []


def answer(request: httpx.Request) -> httpx.Response:
    """Answer as the service would, by the examples of its document."""
    sent.append((request.headers.get("Authorization"), json.loads(request.content or b"null")))
    name = {"/healthz": "Alive", "/v1/jobs/latest": "JobStatus"}.get(request.url.path, "JobPage")
    if request.method == "POST":
        return httpx.Response(202, json=EXAMPLES["JobAccepted"][0])
    return httpx.Response(200, json=EXAMPLES[name][0])


options = {"base_url": "http://127.0.0.1:8000", "httpx_args": {"transport": httpx.MockTransport(answer)}}
assert get_health.sync(client=Client(**options)).status == "ok"
client = AuthenticatedClient(token="secret", **options)  # noqa: S106 - of nothing
kinds = {"prefix": "PrefixJob", "watch": "WatchJob", "list": "ListJob"}
for body in README:
    model = getattr(models, kinds[body.get("kind", "prefix")])
    job = submit_job.sync(client=client, body=model.from_dict(body))
    assert isinstance(job, models.JobAccepted), job
    assert sent[-1] == ("Bearer secret", body), sent[-1]
assert get_job.sync("latest", client=client).counts.additional_properties["scored"] == 821
assert list_jobs.sync(client=client, limit=1).items[0].bucket == "photos"
for name, examples in EXAMPLES.items():
    for example in examples or ():
        cls = getattr(models, name)
        assert cls.from_dict(example).to_dict().keys() >= example.keys(), name
