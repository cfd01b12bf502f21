"""Records of trials, made by hand."""

from ctkd_search.records.store import BASELINE, FAILED, FINISHED, TrialRecord


def trial(number, accuracy=None, status=FINISHED, **more):
    """A trial of one epoch; of none, where there is no accuracy."""
    epochs = [] if accuracy is None else [{"epoch": 1, "validation_accuracy": accuracy}]
    made = {"values": {"pair": "a/b"}, "stored": {}, "seed": 0, "status": status, "epochs": epochs}
    return TrialRecord(number, **{**made, **more})


def repetitions(of, accuracies, first=100, baseline=None):
    """Repetitions of a trial with seeds 1, 2, 3, ...; None for one that failed."""
    kind = {} if baseline is None else {"kind": BASELINE, "baseline": baseline}
    return [
        trial(first + seed, accuracy, FAILED if accuracy is None else FINISHED, seed=seed, repeats=of, **kind)
        for seed, accuracy in enumerate(accuracies, start=1)
    ]
