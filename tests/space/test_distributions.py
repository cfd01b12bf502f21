"""What stands for a parameter: read from YAML, drawn by Optuna, stored, decoded, and the nearest value there is."""

from __future__ import annotations

import itertools
import random
import warnings

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ctkd_search.distill.methods.base import Parameter
from ctkd_search.fields import Range
from ctkd_search.space.distributions import Choice, Constant, Number, parse, show

optuna.logging.set_verbosity(optuna.logging.WARNING)

FLOAT = Parameter("x", 1.0, "", range=Range(0))
INT = Parameter("x", 1, "", kind="int", range=Range(1))
CHOICE = Parameter("x", "kl", "", kind="choice", choices=("kl", "mse", "cosine"))
LAYERS = Parameter("x", (1, 2, 3), "", kind="layers")
PAIR = Parameter("x", "a/b", "", kind="pair")
SUBSETS_OF_3 = ("1", "2", "3", "1,2", "1,3", "2,3", "1,2,3")


def parsed(parameter, raw):
    """The entry of a text without faults."""
    faults = []
    entry = parse(parameter, raw, lambda place, message: faults.append((place, message)))
    assert faults == []
    return entry


def faults_of(parameter, raw):
    """The faults of a text, and that nothing comes of it."""
    faults = []
    assert parse(parameter, raw, lambda place, message: faults.append((place, message))) is None
    return faults


def draws(entry, count, seed=0):
    """Values that an entry suggests, each with the Optuna trial that it came from."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(count):
        trial = study.ask()
        yield entry.decode(entry.suggest(trial, "x")), trial


FORMS = [
    (FLOAT, {"float": [1, 20]}, FloatDistribution(1, 20), "1 to 20"),
    (FLOAT, {"float": [0, 0.9]}, FloatDistribution(0, 0.9), "0 to 0.9"),
    (FLOAT, {"float": [0.01, 10], "log": True}, FloatDistribution(0.01, 10, log=True), "0.01 to 10, log"),
    (FLOAT, {"float": [0.01, 10], "log": False}, FloatDistribution(0.01, 10), "0.01 to 10"),
    (FLOAT, {"float": [0, 1], "step": 0.25}, FloatDistribution(0, 1, step=0.25), "0 to 1, step 0.25"),
    (FLOAT, {"float": [1, 9], "step": 2}, FloatDistribution(1, 9, step=2), "1 to 9, step 2"),
    (INT, {"int": [1, 8]}, IntDistribution(1, 8), "1 to 8"),
    (INT, {"int": [1, 256], "log": True}, IntDistribution(1, 256, log=True), "1 to 256, log"),
    (INT, {"int": [32, 96], "step": 32}, IntDistribution(32, 96, step=32), "32 to 96, step 32"),
    (INT, {"int": [16, 64], "step": 9}, IntDistribution(16, 61, step=9), "16 to 61, step 9"),
    (FLOAT, {"float": [0, 1], "step": 0.3}, FloatDistribution(0, 0.9, step=0.3), "0 to 0.9, step 0.3"),
    (FLOAT, {"float": [1, 9], "step": 3}, FloatDistribution(1, 7, step=3), "1 to 7, step 3"),
    (FLOAT, {"choice": [1, 0.5]}, CategoricalDistribution(("1.0", "0.5")), "1 | 0.5"),
    (INT, {"choice": [64, 32]}, CategoricalDistribution(("64", "32")), "64 | 32"),
    (CHOICE, {"choice": ["mse", "kl"]}, CategoricalDistribution(("mse", "kl")), "mse | kl"),
    (PAIR, {"choice": ["a/b", "c/d"]}, CategoricalDistribution(("a/b", "c/d")), "a/b | c/d"),
    (LAYERS, {"choice": [[3], [2, 1]]}, CategoricalDistribution(("3", "1,2")), "3 | 1,2"),
    (LAYERS, {"subsets": [3, 1, 2]}, CategoricalDistribution(SUBSETS_OF_3), "subsets of 1,2,3"),
]


@pytest.mark.parametrize(("parameter", "raw", "distribution", "shown"), FORMS, ids=lambda value: str(value)[:40])
@pytest.mark.filterwarnings("error")
def test_optuna_is_asked_for_exactly_what_the_file_says(parameter, raw, distribution, shown):
    entry = parsed(parameter, raw)
    assert str(entry) == shown
    assert entry.distribution() == distribution
    for _, trial in draws(entry, 3):
        assert trial.distributions == {"x": distribution}


@pytest.mark.parametrize(("parameter", "raw"), [form[:2] for form in FORMS], ids=lambda value: str(value)[:40])
def test_what_optuna_stores_decodes_to_the_value_that_the_trial_got(parameter, raw):
    entry = parsed(parameter, raw)
    seen = set()
    for value, trial in draws(entry, 50):
        decoded = entry.decode(trial.params["x"])
        assert (decoded, type(decoded)) == (value, type(value))
        assert entry.encode(decoded) == trial.params["x"]
        assert parameter.fault(value) is None
        seen.add(value)
    assert len(seen) >= 2
    if isinstance(entry, Choice):
        assert seen == set(entry.values())
    else:
        assert entry.values() is None


@pytest.mark.parametrize(
    ("parameter", "raw", "value"),
    [
        (FLOAT, 3, 3.0),
        (FLOAT, 0.5, 0.5),
        (INT, 3, 3),
        (CHOICE, "mse", "mse"),
        (PAIR, "a/b", "a/b"),
        (LAYERS, [3, 1], (1, 3)),
    ],
)
def test_a_plain_value_is_a_constant_of_the_parameters_type(parameter, raw, value):
    entry = parsed(parameter, raw)
    assert entry == Constant(value)
    assert type(entry.value) is type(value)
    assert entry.values() == (value,)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"a": "kl"}, {"a": ("kl",)}),
        ({"a": ["kl", "mse"], "b": 2}, {"a": ("kl", "mse"), "b": (2,)}),
        (None, {}),
    ],
)
def test_a_condition_lists_the_values_that_another_parameter_must_have(when, expected):
    assert parsed(FLOAT, {"float": [1, 2], "when": when}).when == expected
    assert parsed(CHOICE, {"choice": ["kl", "mse"], "when": when}).when == expected


def random_numbers(kind, count):
    """Random ranges, as people might write them, each with the distribution that Optuna makes of it."""
    generator = random.Random(kind)
    while count:
        if kind.startswith("int"):
            low = generator.randint(1, 50)
            high = low + generator.randint(1, 100)
            step = generator.randint(1, high - low) if kind == "int step" else None
            log = kind == "int log"
            distribution = IntDistribution(low, high, log=log, step=step or 1)
        else:
            digits = generator.randint(1, 3)
            low = round(generator.uniform(0.1, 3), digits)
            high = round(low + generator.uniform(0.1, 5), digits)
            step = round(generator.uniform(0.001, high - low), digits) if kind == "float step" else None
            if not low < high or (step is not None and not 0 < step <= high - low):
                continue
            log = kind == "float log"
            distribution = FloatDistribution(low, high, log=log, step=step)
        count -= 1
        wanted = generator.uniform(low - 1, high + 1)
        yield Number(low=low, high=high, whole=kind.startswith("int"), log=log, step=step), distribution, wanted


KINDS = ("float", "float log", "float step", "int", "int log", "int step")


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_value_is_always_one_that_optuna_can_draw(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna says where a range is no multiple of its step
        for number, distribution, wanted in random_numbers(kind, 2000):
            nearest = number.nearest(wanted)
            assert type(nearest) is (int if number.whole else float)
            assert distribution._contains(nearest), (number, wanted, nearest)


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_is_nearer_than_the_nearest(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, distribution, wanted in random_numbers(kind, 2000):
            if distribution.step is None:
                least = max(number.low - wanted, wanted - number.high, 0.0)
            else:
                count = round((distribution.high - distribution.low) / distribution.step) + 1
                members = (distribution.low + index * distribution.step for index in range(count))
                least = min(abs(member - wanted) for member in members)
            assert abs(number.nearest(wanted) - wanted) == pytest.approx(least, abs=1e-9), (number, wanted)


@pytest.mark.parametrize(
    ("parameter", "raw", "value", "stored"),
    [
        (CHOICE, {"choice": ["mse", "kl"]}, "kl", "kl"),
        (CHOICE, {"choice": ["mse", "kl"]}, "cosine", "mse"),
        (LAYERS, {"subsets": [1, 2, 3]}, (1, 2, 3), "1,2,3"),
        (LAYERS, {"choice": [[2], [3]]}, (1, 2, 3), "2"),
        (FLOAT, {"choice": [0.1, 0.2]}, 0.2, "0.2"),
        (INT, {"choice": [64, 128]}, 128, "128"),
    ],
)
def test_the_nearest_option_is_the_value_itself_or_the_first_option(parameter, raw, value, stored):
    assert parsed(parameter, raw).nearest(value) == stored


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_is_encoded_where_optuna_could_have_drawn_it_and_nowhere_else(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, distribution, wanted in random_numbers(kind, 500):
            nearest = number.nearest(wanted)
            assert number.encode(nearest) == nearest
            # As it comes back from arithmetic with steps, but for its last digits.
            if not number.whole:
                for noisy in (nearest * (1 + 1e-15), nearest * (1 - 1e-15)):
                    assert distribution._contains(number.encode(noisy))
            assert number.encode(number.low - 1) is None
            assert number.encode(number.high + 1) is None
            if number.step and not number.whole:
                assert number.encode(number.low + 0.4 * number.step) is None
            if number.whole:
                assert number.encode(number.low + 0.5) is None


@pytest.mark.parametrize(
    ("parameter", "raw", "value", "stored"),
    [
        (FLOAT, {"float": [0, 1]}, 0, 0),
        (FLOAT, {"float": [0, 1]}, 1, 1),
        (FLOAT, {"float": [0, 1]}, True, None),
        (FLOAT, {"float": [0, 1]}, "0.5", None),
        (FLOAT, {"float": [0, 1]}, None, None),
        (FLOAT, {"float": [0, 1], "step": 0.1}, 0.1 + 0.2, 0.1 + 0.2),
        (FLOAT, {"float": [0, 1], "step": 0.1}, 0.31, None),
        (INT, {"int": [32, 96], "step": 32}, 64, 64),
        (INT, {"int": [32, 96], "step": 32}, 48, None),
        (FLOAT, {"choice": [0.1, 0.2]}, 0.2, "0.2"),
        (FLOAT, {"choice": [0.1, 0.2]}, 0.15, None),
        (CHOICE, {"choice": ["mse", "kl"]}, "kl", "kl"),
        (CHOICE, {"choice": ["mse", "kl"]}, "cosine", None),
        (LAYERS, {"subsets": [1, 2, 3]}, (1, 3), "1,3"),
        (LAYERS, {"subsets": [1, 2, 3]}, [1, 3], "1,3"),
        (LAYERS, {"choice": [[2], [3]]}, [2, 3], None),
    ],
)
def test_what_an_entry_never_is_has_no_code(parameter, raw, value, stored):
    assert parsed(parameter, raw).encode(value) == stored


LIST = "must be a list, but got"
ONE_FORM = "must be a constant or {float: [...]} or {choice: [...]}, but got"
FAULTS = [
    (FLOAT, "fast", (), "must be a number, but got 'fast'"),
    (FLOAT, True, (), "must be a number, but got True"),
    (FLOAT, None, (), "must be a number, but got None"),
    (FLOAT, [1, 2], (), "must be a number, but got [1, 2]"),
    (FLOAT, -1, (), "must be at least 0, but got -1"),
    (FLOAT, float("nan"), (), "must be finite and at least 0, but got nan"),
    (FLOAT, float("inf"), (), "must be finite and at least 0, but got inf"),
    (INT, 1.0, (), "must be a whole number, but got 1.0"),
    (CHOICE, "klx", (), "must be one of kl, mse, cosine, but got 'klx'"),
    (CHOICE, ["kl"], (), "must be one of kl, mse, cosine, but got ['kl']"),
    (PAIR, "a", (), "must be TEACHER/STUDENT"),
    (PAIR, "a/b/c", (), "must be TEACHER/STUDENT"),
    (LAYERS, [], (), "must be a list of different layer numbers"),
    (LAYERS, [1, 1], (), "must be a list of different layer numbers"),
    (LAYERS, [0, 1], (), "must be a list of different layer numbers"),
    (LAYERS, [True], (), "must be a list of different layer numbers"),
    (LAYERS, 2, (), "must be a list of different layer numbers"),
    (FLOAT, {}, (), ONE_FORM),
    (FLOAT, {"flaot": [1, 2]}, (), ONE_FORM),
    (FLOAT, {"int": [1, 2]}, (), ONE_FORM),
    (FLOAT, {"float": [1, 2], "choice": [1, 2]}, (), ONE_FORM),
    (INT, {"float": [1, 2]}, (), "must be a constant or {int: [...]} or {choice: [...]}, but got"),
    (PAIR, {"subsets": [1, 2]}, (), "must be a constant or {choice: [...]}, but got"),
    (LAYERS, {"float": [1, 2]}, (), "must be a constant or {subsets: [...]} or {choice: [...]}, but got"),
    (FLOAT, {"float": 3}, ("float",), f"{LIST} 3"),
    (FLOAT, {"float": []}, ("float",), f"{LIST} []"),
    (FLOAT, {"float": None}, ("float",), f"{LIST} None"),
    (FLOAT, {"float": [1]}, ("float",), "must be [low, high], but got [1]"),
    (FLOAT, {"float": [1, 2, 3]}, ("float",), "must be [low, high], but got [1, 2, 3]"),
    (FLOAT, {"float": [-1, 2]}, ("float", 0), "must be at least 0, but got -1"),
    (FLOAT, {"float": [0, "x"]}, ("float", 1), "must be a number, but got 'x'"),
    (FLOAT, {"float": [0, float("inf")]}, ("float", 1), "must be finite and at least 0, but got inf"),
    (FLOAT, {"float": [3, 1]}, ("float",), "low < high must hold, but got low=3, high=1"),
    (FLOAT, {"float": [3, 3]}, ("float",), "low < high must hold, but got low=3, high=3"),
    (FLOAT, {"float": [0, 1], "log": True}, ("float", 0), "must be greater than 0 where log is true, but got 0"),
    (FLOAT, {"float": [1, 2], "log": 1}, ("log",), "must be true or false, but got 1"),
    (FLOAT, {"float": [1, 2], "log": True, "step": 1}, ("step",), "cannot be combined with log: true"),
    (FLOAT, {"float": [1, 2], "step": 0}, ("step",), "must be a number greater than 0, but got 0"),
    (FLOAT, {"float": [1, 2], "step": float("nan")}, ("step",), "must be a number greater than 0, but got nan"),
    (FLOAT, {"float": [1, 2], "step": float("inf")}, ("step",), "must not be larger than the range 1, but got inf"),
    (FLOAT, {"float": [1, 2], "step": True}, ("step",), "must be a number greater than 0, but got True"),
    (FLOAT, {"float": [1, 2], "step": 3}, ("step",), "must not be larger than the range 1, but got 3"),
    (FLOAT, {"float": [0, 1], "step": 1e-300}, ("step",), "must be at least 1.11e-16 with this range, but got 1e-300"),
    (FLOAT, {"float": [0, 1], "step": 5e-324}, ("step",), "must be at least 1.11e-16 with this range, but got 5e-324"),
    (INT, {"int": [1, 9], "step": 0.5}, ("step",), "must be a whole number, but got 0.5"),
    (INT, {"int": [1.5, 9]}, ("int", 0), "must be a whole number, but got 1.5"),
    (FLOAT, {"float": [1, 2], "lgo": True}, ("lgo",), "is not a known key (did you mean log?)"),
    (CHOICE, {"choice": ["kl", "mse"], "log": True}, ("log",), "is not a known key"),
    (CHOICE, {"choice": ["kl", "klx"]}, ("choice", 1), "must be one of kl, mse, cosine, but got 'klx'"),
    (CHOICE, {"choice": ["kl"]}, ("choice",), "must have at least 2 values"),
    (FLOAT, {"choice": [1, 2, 1.0]}, ("choice", 2), "1.0 is duplicated"),
    (LAYERS, {"choice": [[1, 2], [2, 1]]}, ("choice", 1), "[2, 1] is duplicated"),
    (LAYERS, {"subsets": [1]}, ("subsets",), "must have at least 2 layers"),
    (LAYERS, {"subsets": [1, "2"]}, ("subsets",), "must be a list of different layer numbers"),
    (FLOAT, {"float": [1, 2], "when": "kl"}, ("when",), "must name parameters and their values"),
    (FLOAT, {"float": [1, 2], "when": {}}, ("when",), "must name parameters and their values"),
    (FLOAT, 10**400, (), "must be"),
    (FLOAT, {"float": [1, 10**400]}, ("float", 1), "must be"),
]


@pytest.mark.parametrize(("parameter", "raw", "place", "fragment"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_faulty_entry_is_refused_where_the_fault_is(parameter, raw, place, fragment):
    ((found, message),) = faults_of(parameter, raw)
    assert found == place
    assert fragment in message


def test_a_condition_that_no_value_meets_is_refused():
    ((place, _),) = faults_of(FLOAT, {"float": [1, 2], "when": {"a": []}})
    assert place[0] == "when"


def test_all_faults_of_an_entry_are_found_at_once():
    found = faults_of(FLOAT, {"float": [-2, -3], "log": "yes", "step": -1, "sept": 1, "when": 3})
    assert [place for place, _ in found] == [("sept",), ("when",), ("float", 0), ("float", 1), ("log",), ("step",)]


@pytest.mark.parametrize(
    ("value", "text"),
    [((1, 2), "1,2"), ([3], "3"), (4.0, "4"), (0.1 + 0.2, "0.3"), (5e-4, "0.0005"), ("kl", "kl"), (True, "True")],
)
def test_values_are_shown_without_noise(value, text):
    assert show(value) == text


def test_subsets_are_all_that_are_not_empty_and_the_smallest_come_first():
    options = list(parsed(LAYERS, {"subsets": [2, 4, 3, 1]}).values())
    assert len(options) == 15
    assert options == sorted(options, key=lambda subset: (len(subset), subset))
    assert set(options) == {c for size in range(1, 5) for c in itertools.combinations((1, 2, 3, 4), size)}
