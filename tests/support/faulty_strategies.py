"""Sections of spaces with which something is wrong, and what is to be said of it."""

from ctkd_search.metrics import OBJECTIVES, ON_REQUEST
from ctkd_search.space.baselines import BASELINES

ACCURACY = "validation_accuracy"

MEASURED, ASKED = ", ".join(OBJECTIVES), ", ".join(ON_REQUEST)
KNOWN = f"{MEASURED}, int8_validation_accuracy, params, multiply_adds, latency_ms, int8_latency_ms, onnx_bytes"


SAMPLERS = "tpe, gp, cmaes, qmc, random"

NUMBERS = "{alpha: {float: [0.1, 1]}, lr: {float: [0.01, 0.3]}, pair: {choice: [wrn-16-2/resnet8, wrn-16-2/wrn-16-1]}}"

ONE_STUDENT = (
    "{alpha: {float: [0.1, 1]}, lr: {float: [0.01, 0.3]}, pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}}"
)

# What is wrong, where it is said, and with which words. The budget is 60 epochs with two rungs.
FAULTY_STRATEGIES = [
    ("sampler=bayes", "sampler", f"must be one of {SAMPLERS}, but got 'bayes'"),
    ("sampler=''", "sampler", f"must be one of {SAMPLERS}, but got ''"),
    ("sampler=5", "sampler", "must be a mapping, with the keys name, startup_trials"),
    ("sampler=true", "sampler", "must be a mapping, with the keys name, startup_trials"),
    ("sampler=[tpe]", "sampler", "must be a mapping, with the keys name, startup_trials"),
    ("sampler.name=bayes", "sampler.name", "must be 'tpe', 'gp', 'cmaes', 'qmc' or 'random', but got 'bayes'"),
    # Whose option that is, nobody knows then.
    ("sampler={name: cma-es, sigma: 0.1}", "sampler.name", "but got 'cma-es'"),
    ("sampler.startup=3", "sampler.startup", "is not a known key (did you mean startup_trials?)"),
    ("sampler={startup_trials: 0}", "sampler.startup_trials", "must be at least 1, but got 0"),
    ("sampler={startup_trials: 2.5}", "sampler.startup_trials", "must be a whole number, but got 2.5"),
    ("sampler={candidates: many}", "sampler.candidates", "must be a whole number, but got 'many'"),
    ("sampler={candidates: 0}", "sampler.candidates", "must be at least 1, but got 0"),
    ("sampler={sigma: 0.1}", "sampler.sigma", "has no effect with tpe; it belongs to cmaes"),
    ("sampler={name: gp, candidates: 5}", "sampler.candidates", "has no effect with gp; it belongs to tpe"),
    ("sampler={name: cmaes, sigma: 0}", "sampler.sigma", "must be in (0, 1], but got 0"),
    ("sampler={name: cmaes, sigma: 1.5}", "sampler.sigma", "must be in (0, 1], but got 1.5"),
    ("sampler={name: cmaes, population: 3}", "sampler.population", "must be at least 4, but got 3"),
    ("sampler={name: qmc, sequence: latin}", "sampler.sequence", "must be 'sobol' or 'halton', but got 'latin'"),
    ("sampler={name: qmc, scramble: 1}", "sampler.scramble", "must be true or false, but got 1"),
    ("sampler={name: qmc, population: 9}", "sampler.population", "has no effect with qmc; it belongs to cmaes"),
    ("sampler={name: random, startup_trials: 5}", "sampler.startup_trials", "belongs to tpe and gp"),
    ("sampler={name: random, scramble: true}", "sampler.scramble", "has no effect with random; it belongs to qmc"),
    ("scheduler=median", "scheduler", "must be one of asha, hyperband, constant, none, but got 'median'"),
    ("scheduler=[]", "scheduler", "must be a mapping, with the keys name, brackets, signal"),
    ("scheduler.name=None", "scheduler.name", "must be 'asha', 'hyperband', 'constant' or 'none', but got 'None'"),
    ("scheduler={brackets: 2}", "scheduler.brackets", "has no effect with asha; it belongs to hyperband"),
    ("scheduler={name: none, brackets: 2}", "scheduler.brackets", "has no effect with none; it belongs to hyperband"),
    ("scheduler={signal: error}", "scheduler.signal", "must be 'loss' or 'objective', but got 'error'"),
    ("scheduler={horizon: -1}", "scheduler.horizon", "must be at least 0, but got -1"),
    ("scheduler={promote: 1.5}", "scheduler.promote", "must be"),
    ("scheduler={best: 2}", "scheduler.best", "has no effect with asha; it belongs to constant"),
    ("scheduler={name: constant, best: 0}", "scheduler.best", "must be at least 1, but got 0"),
    ("scheduler={name: constant, promote: true}", "scheduler.promote", "it belongs to asha and hyperband"),
    ("scheduler={name: none, horizon: 1}", "scheduler.horizon", "it belongs to asha and hyperband and constant"),
    ("scheduler={name: hyperband, brackets: 1}", "scheduler.brackets", "must be at least 2, but got 1"),
    ("scheduler={name: hyperband, brackets: 5}", "scheduler.brackets", "must be at most the 2 rungs of this budget"),
    ("scheduler={name: hyperband, grace: 1}", "scheduler.grace", "is not a known key"),
    ("baselines=kd", "baselines", f"must be a list of {', '.join(BASELINES)}, but got 'kd'"),
    ("baselines={kd: true}", "baselines", "must be a list of student-alone, label-smoothing"),
    ("baselines=[kd, kdd]", "baselines.1", f"must be one of {', '.join(BASELINES)}, but got 'kdd'"),
    ("baselines=[null]", "baselines.0", "must be one of student-alone, label-smoothing"),
    ("baselines=[[kd]]", "baselines.0", "but got ['kd']"),
    ("baselines=[{kd: 1}]", "baselines.0", "but got {'kd': 1}"),
    ("baselines=[kd, at, kd]", "baselines.2", "kd is duplicated"),
    ("confirm=3", "confirm", "must be a mapping, with the keys best, seeds, per_method, but got 3"),
    ("confirm=true", "confirm", "must be a mapping, with the keys best, seeds, per_method, but got True"),
    ("confirm={best: 0}", "confirm.best", "must be at least 1, but got 0"),
    ("confirm={seeds: 1}", "confirm.seeds", "must be at least 2, but got 1"),
    ("confirm={seeds: many}", "confirm.seeds", "must be a whole number, but got 'many'"),
    ("confirm={trials: 3}", "confirm.trials", "is not a known key; allowed: best, seeds"),
    ("objectives=params", "objectives", f"must be a list of {KNOWN}, but got 'params'"),
    ("objectives=[]", "objectives", f"must be a list of {KNOWN}, but got []"),
    (f"objectives=[{ACCURACY}, size]", "objectives.1", f"must be one of {KNOWN}, but got"),
    (f"objectives=[{ACCURACY}, [params]]", "objectives.1", "but got ['params']"),
    (f"objectives=[{ACCURACY}, params, params]", "objectives.2", "params is duplicated"),
    ("objectives=[params]", "objectives", f"must have one of {MEASURED} among them, but got ['params']"),
    (
        "objectives=[int8_validation_accuracy, onnx_bytes]",
        "objectives",
        f"must have one of {MEASURED} among them, but got ['int8_validation_accuracy', 'onnx_bytes']",
    ),
    ("objectives=[accuracy]", "objectives.0", f"must be one of {KNOWN}, but got"),
    ("metrics=ece", "metrics", f"must be a list of {ASKED}, but got 'ece'"),
    ("metrics={ece: true}", "metrics", f"must be a list of {ASKED}, but got"),
    ("metrics=[loss]", "metrics.0", f"must be one of {ASKED}, but got 'loss'"),
    ("metrics=[ece, top5, ece]", "metrics.2", "ece is duplicated"),
    ("metrics=[[ece]]", "metrics.0", "but got ['ece']"),
    (
        "limits=5",
        "limits",
        "must be a mapping, with the keys max_params, max_multiply_adds, max_latency_ms, max_int8_latency_ms",
    ),
    ("limits={max_params: 0}", "limits.max_params", "must be at least 1, but got 0"),
    ("limits={max_params: 1.5e5}", "limits.max_params", "must be a whole number, but got 150000.0"),
    ("limits={max_multiply_adds: -1}", "limits.max_multiply_adds", "must be at least 1, but got -1"),
    ("limits={max_latency_ms: 0}", "limits.max_latency_ms", "must be greater than 0, but got 0"),
    ("limits={max_latency_ms: .nan}", "limits.max_latency_ms", "must be finite and greater than 0, but got nan"),
    ("limits={max_int8_latency_ms: 0}", "limits.max_int8_latency_ms", "must be greater than 0, but got 0"),
    ("limits={max_onnx_bytes: 0.5}", "limits.max_onnx_bytes", "must be a whole number, but got 0.5"),
    ("limits={params: 100000}", "limits.params", "is not a known key (did you mean max_params?)"),
]

# What stands in the way of a choice, elsewhere in the space.
OUT_OF_PLACE = [
    (["sampler=cmaes"], "{alpha: {float: [0.1, 1]}, step_loss: {choice: [kl, mse]}}", "sampler", "has 1"),
    (["sampler=cmaes"], "{step_loss: {choice: [kl, mse]}}", "sampler", "the space has 0"),
    (
        ["sampler=cmaes"],
        "{alpha: {float: [0, 1]}, step_loss: {choice: [kl, mse]}, temperature: {float: [1, 9], when: {step_loss: kl}}}",
        "sampler",
        "cmaes needs at least 2 numbers that are searched in every trial (float or int, without when); the space has 1",
    ),
    (["sampler=cmaes", f"objectives=[{ACCURACY}, params]"], NUMBERS, "sampler", "cmaes follows one objective"),
    (["scheduler=none", "budget.grace_period=1"], NUMBERS, "budget.grace_period", "where scheduler is none; leave it"),
    (["scheduler=none", "budget.reduction_factor=3"], NUMBERS, "budget.reduction_factor", "where scheduler is none"),
    (["scheduler=constant", "budget.reduction_factor=3"], NUMBERS, "budget.reduction_factor", "scheduler is constant"),
    (["scheduler={name: constant}", "budget.reduction_factor=3"], NUMBERS, "budget.reduction_factor", "is constant"),
    (
        ["scheduler=constant", "budget={epochs: 9, grace_period: 9}"],
        NUMBERS,
        "scheduler",
        "below the epochs 9, but got 9",
    ),
    (
        ["scheduler=constant", "budget={epochs: 1}"],
        NUMBERS,
        "scheduler",
        "constant needs at least 2 epochs, and this budget has 1; raise epochs, or use none",
    ),
    (
        ["scheduler=hyperband", "budget={epochs: 2, grace_period: 1}"],
        NUMBERS,
        "scheduler",
        "and this budget has 1",
    ),
    (["scheduler=hyperband", "budget={epochs: 9, grace_period: 9}"], NUMBERS, "scheduler", "and this budget has 0"),
    (
        ["scheduler={name: hyperband, brackets: 3}", "budget={epochs: 9, grace_period: 1}"],
        NUMBERS,
        "scheduler.brackets",
        "must be at most the 2 rungs of this budget, but got 3",
    ),
    ([f"objectives=[{ACCURACY}, latency_ms]"], ONE_STUDENT, "objectives", "latency_ms is the same in every trial"),
    ([f"objectives=[{ACCURACY}, onnx_bytes]"], ONE_STUDENT, "objectives", "onnx_bytes is the same in every trial"),
    ([f"objectives=[{ACCURACY}, params]"], "{alpha: {float: [0.1, 1]}}", "objectives", "has the student wrn-16-1"),
]
