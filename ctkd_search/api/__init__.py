"""The Python API: what `ctkd_search` offers by name, and what the commands call."""
