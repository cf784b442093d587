"""The documentation page comes from this server alone."""

import re
from html.parser import HTMLParser

from dpiqa.api.docs import ASSETS


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.urls, self.inline = [], 0

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.urls += [attrs[name] for name in ("src", "href") if name in attrs]
        self.inline += tag == "script" and "src" not in attrs


def test_the_page_asks_nobody_else(client):
    page = client.get("/docs")
    links = Links()
    links.feed(page.text)
    assert links.inline == 0
    assert "docs/swagger-ui-bundle.js" in links.urls
    for link in links.urls:
        assert not re.match(r"(?:\w+:)?//", link)
        assert client.get(f"/{link}").status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_assets_are_whole(client):
    for name, (_, _, media_type) in ASSETS.items():
        answer = client.get(f"/docs/{name}")
        assert answer.headers["content-type"].startswith(media_type)
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(client.get("/docs/swagger-ui-bundle.js").content) > 500_000
    assert "SwaggerUIBundle(" in client.get("/docs/start.js").text
    assert client.get("/docs/../app.py").status_code == 404
    assert client.get("/docs/nonesuch.js").status_code == 404


def test_the_description_says_how_errors_look(client):
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) >= {"/v1/jobs", "/v1/jobs/{job_id}", "/v1/scores", "/v1/scores/lookup", "/v1/events"}
    for path in schema["paths"].values():
        for operation in path.values():
            assert "application/problem+json" in operation["responses"]["422"]["content"]
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    events = schema["paths"]["/v1/events"]["post"]
    assert events["security"][1:] == [
        {"bearer": ["events"]},
        {"apiKey": ["events"]},
        {"bearer": ["submit"]},
        {"apiKey": ["submit"]},
    ]
    assert events["description"].endswith("Scope of the key: `events` or `submit`.")
    assert schema["paths"]["/healthz"]["get"]["security"] == []
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert len(operation["security"]) > 1 or not path.startswith("/v1")
    assert "HTTPValidationError" not in str(schema)
