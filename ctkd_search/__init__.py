"""Hyperparameter search for Collaborative Teaching Knowledge Distillation (CTKD)."""

__version__ = "0.1.0"
