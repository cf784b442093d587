"""Commands about API keys and the audit."""
