"""Methods that look at the expert's logits: their terms and gradients for given logits, and a short training."""

import dataclasses

import torch

from ctkd_search.config import MethodConfig
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import LOGITS
from support.recorded import BASE, live
from support.tiny import prepared_trainer


def logit_terms(name, values, student, expert, labels, epoch=0, epochs=1):
    """The terms of a method in float64, and the gradient of each with respect to the student's logits."""
    method = make_method(MethodConfig(name, values))
    method.begin_epoch(epoch, epochs)
    lesson = Lesson(torch.zeros(len(labels)), torch.tensor(labels), None, {LOGITS: torch.tensor(expert)})
    logits = torch.tensor(student, requires_grad=True)
    terms = method.terms(StudentOutput(logits, []), lesson)
    gradients = {key: torch.autograd.grad(term, logits, retain_graph=True)[0].numpy() for key, term in terms.items()}
    return {key: term.item() for key, term in terms.items()}, gradients


def ends(name, values, splits, directory):
    """Losses and last weights of a method's training under recorded and under live teachers."""
    config = dataclasses.replace(BASE, method=MethodConfig(name, values))
    found = []
    for one in (config, live(config)):
        trainer = prepared_trainer(one, splits, TeacherCache(directory, "a test"))
        losses = [trainer.run_epoch()["loss"] for _ in range(one.epochs)]
        found.append([losses, trainer.student.state_dict()])
    return found
