"""The Celery side: app, tasks, doorbell. Thin: each unpacks, calls `dpiqa` and returns."""
