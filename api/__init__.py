"""The HTTP API: job status and score queries. Thin: routes unpack, call `dpiqa`, return. Never reaches torch."""
