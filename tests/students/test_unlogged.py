"""A student that cannot be logged to MLflow, and whose fault that is."""

import pytest
from support.kept_students import a_student, some_images

from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.models.graph import NoGraph
from ctkd_search.students.model import log_student

WHOSE = {
    "no graph": (NoGraph("it branches"), NoGraph, "^it branches$"),
    "other probabilities": (WorkFailed("{} would not be it"), NoGraph, "^the graph of resnet8 would not be it$"),
    "no file of torch": (
        RuntimeError("no such operator"),
        NoGraph,
        "^resnet8 cannot be exported as a graph: no such op",
    ),
    "the disk's": (OSError(28, "No space left on device"), OSError, "No space left"),
    "the place's": (UserError("cannot write to the directory"), UserError, "^cannot write"),
}


@pytest.mark.parametrize(("raised", "kind", "said"), WHOSE.values(), ids=WHOSE.keys())
def test_a_student_whose_graph_is_at_fault_is_told_from_what_else_may_fail(monkeypatch, raised, kind, said):
    def write(served, metadata, path, form):
        raise type(raised)(*(str(part).format(path) if isinstance(part, str) else part for part in raised.args))

    monkeypatch.setattr("ctkd_search.students.model.write_student", write)
    served, metadata = a_student()
    with pytest.raises(kind, match=said):
        # Nothing of MLflow is asked before.
        log_student(
            served, some_images(2).numpy(), None, "run", "name", classes=metadata.classes, architecture="resnet8"
        )
