"""The training loop, which knows nothing about what it trains: updates, validation, checkpoints and logs."""
