"""The few questions that the demo asks the HTTP API."""

from typing import Any

import httpx

from dpiqa.errors import ConfigurationError, DpiqaError, Unavailable

_PAGE = 1000


class Client:
    """The API of the running stack."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def watch(self, bucket: str) -> str:
        """Ask for a standing watch on a bucket; return its job's id."""
        return str(self._ask("POST", "/v1/jobs", json={"kind": "watch", "bucket": bucket})["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return how far a job is."""
        return dict(self._ask("GET", f"/v1/jobs/{job_id}"))

    def scores(self, bucket: str) -> list[dict[str, Any]]:
        """Return every score of a bucket, worst first."""
        return self._pages("/v1/scores", {"bucket": bucket, "sort": "score"})

    def unscored(self, job_id: str, states: list[str]) -> list[dict[str, Any]]:
        """Return the job's items in these states."""
        return [item for state in states for item in self._pages(f"/v1/jobs/{job_id}/items", {"state": state})]

    def _pages(self, path: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self._ask("GET", path, params={**query, **cursor, "limit": _PAGE})
            rows += page["items"]
            if not page["next_cursor"]:
                return rows
            cursor = {"cursor": page["next_cursor"]}

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._http.request(method, path, **arguments)
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise _refusal(error.response, f"{method} {path}") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"the API does not answer {method} {path}: {error}") from None
        return answer.json()


def _refusal(answer: httpx.Response, question: str) -> DpiqaError:
    message = f"the API answers {answer.status_code} to {question}"
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return Unavailable(message)
    return ConfigurationError(f"{message}: {answer.text[:200]}", hint="see api.log of the stack")
