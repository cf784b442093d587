"""The HTTP API as seen from outside: bodies of requests and responses, and a client. Free of FastAPI."""
