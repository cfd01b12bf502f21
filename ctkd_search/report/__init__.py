"""The report of a search: one HTML page that needs nothing beside it, and its pictures."""
