"""What the commands share: groups, options, terminal, output, progress, settings."""
