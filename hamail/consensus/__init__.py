"""The replicated log behind a narrow port; PySyncObj is one way to have it."""
