"""Files that are kept of a search: its record, its trials, their states and configs."""
