"""Documents that `--json` prints: their schemas, and which command prints which."""
