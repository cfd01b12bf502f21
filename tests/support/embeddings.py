"""Methods that look at the pooled embedding: their terms and gradients for given embeddings."""

import numpy as np
import torch

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import EMBEDDING

LOGITS = torch.zeros(8, 4)
LABELS = torch.arange(8) % 4


def value_and_gradient(loss, student, expert):
    """A loss in float64, and its gradient with respect to the student's side."""
    own = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    found = loss(own, torch.tensor(expert, dtype=torch.float64))
    found.backward()
    return found.item(), own.grad.numpy()


def embedding_terms(name, values, student, expert):
    """The terms of a method for embeddings of up to 8 images, as numbers."""
    count = len(student)
    outputs = {EMBEDDING: torch.tensor(expert).float()}
    lesson = Lesson(torch.zeros(count), LABELS[:count], None, outputs)
    output = StudentOutput(LOGITS[:count], [], torch.tensor(student).float())
    terms = make_method(MethodConfig(name, values)).terms(output, lesson)
    assert np.isclose(terms.pop("loss_ce").item(), np.log(4))
    return {key: term.item() for key, term in terms.items()}
