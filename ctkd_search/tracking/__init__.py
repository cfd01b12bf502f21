"""MLflow: the store, the runs of a search, the champion, the UI."""
