"""The space of a search: its YAML file, read and validated, and the distributions that it declares."""
