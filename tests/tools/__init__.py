"""Developer tools: python -m tests.tools.NAME. No tests."""
