"""Output for a terminal and for tables in files: the leaderboard, the overview, the progress of a search."""
