"""Anthropic's API: `/v1/messages`, and `/v1/models` for those who send its header."""
