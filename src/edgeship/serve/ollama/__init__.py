"""Ollama's API: `/api/chat` and `/api/generate`, and what it tells of models."""
