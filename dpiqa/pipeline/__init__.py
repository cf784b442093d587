"""Claim, fetch, decode, score, decide, record: how items become results."""
