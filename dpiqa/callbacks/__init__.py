"""Callbacks: URLs that are told when a job ends, as signed webhooks (Standard Webhooks). Free of the database."""
