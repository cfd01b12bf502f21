"""The config of a trial as plain values."""

from ctkd_search.config import DatasetConfig, MethodConfig, TrialConfig


def test_the_name_of_a_method_and_its_values_are_beside_each_other():
    method = MethodConfig("at", {"beta": 60.0, "attention_layers": (1, 2)})
    config = TrialConfig(DatasetConfig("digits"), 2, "wrn-16-1", "resnet8", method)
    assert config.nested()["method"] == {"name": "at", "beta": 60.0, "attention_layers": (1, 2)}
    assert config.as_dict()["method"] == {"name": "at", "beta": 60.0, "attention_layers": [1, 2]}
    assert list(config.as_dict()["method"]) == ["name", "beta", "attention_layers"]
