"""Commands about the system itself: its check, database, settings, processes and the embedded stack."""
