"""The orchestration of a search: Ray and Optuna. The only package that imports Ray."""
