"""The config of a final training."""

import dataclasses

from ctkd_search.config import DatasetConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.recipe import Recipe

METHOD = MethodConfig(
    "ctkd", {"step_loss": "kl", "temperature": 6.0, "alpha": 0.5, "beta": 30.0, "attention_layers": (2, 3)}
)
KD = MethodConfig("kd", {"temperature": 4.0, "weight": 0.9})


def a_config(method=None, **changes):
    config = TrialConfig(
        dataset=DatasetConfig("digits"),
        epochs=7,
        teacher="wrn-10-1",
        student="resnet8",
        method=METHOD if method is None else method,
        train=Recipe(lr=0.03, batch_size=32, momentum=0.8, weight_decay=1e-3, gamma=0.5),
        teachers=TeachersConfig(seed=20),
        seed=4,
    )
    return dataclasses.replace(config, **changes)
