"""Shared parts of the commands: groups, options, terminal, output, progress, settings."""
