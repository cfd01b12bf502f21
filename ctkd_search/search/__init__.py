"""The orchestration: Ray, Optuna and MLflow. The only room that imports Ray."""
