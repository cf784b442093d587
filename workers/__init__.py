"""The Celery side: app, tasks, listener. Thin: each unpacks, calls `dpiqa`, returns."""
