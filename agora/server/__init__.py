"""The web application: OpenAI-compatible API."""
