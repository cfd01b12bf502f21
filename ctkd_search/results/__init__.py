"""What comes out of a search: its record on disk, the leaderboard, the best config, the final training."""
