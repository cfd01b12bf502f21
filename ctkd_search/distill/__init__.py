"""The distillation core. It knows torch, and nothing of Ray, Optuna or MLflow."""
