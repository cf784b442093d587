"""Commands about work in the queue: submit, follow, list."""
