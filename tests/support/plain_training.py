"""CTKD once more, as plainly as possible: one loop, formulas written out, nothing of `ctkd_search.distill`."""

import torch
import torch.nn.functional as F

from ctkd_search.data.stream import Normalise, Stream, derived_seed
from ctkd_search.models import build


class PlainSGD:
    """Stochastic gradient descent with momentum, plain or Nesterov's, and weight decay."""

    def __init__(self, network, recipe):
        self.parameters = list(network.parameters())
        self.recipe = recipe
        self.velocity = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, loss, lr):
        for index, gradient in enumerate(torch.autograd.grad(loss, self.parameters, materialize_grads=True)):
            parameter = self.parameters[index]
            slope = gradient + self.recipe.weight_decay * parameter
            self.velocity[index] = self.recipe.momentum * self.velocity[index] + slope
            ahead = slope + self.recipe.momentum * self.velocity[index]
            parameter -= lr * (ahead if self.recipe.nesterov else self.velocity[index])


def cross_entropy(logits, labels):
    return -F.log_softmax(logits, dim=1)[torch.arange(len(labels)), labels].mean()


def kl(student, scratch, temperature):
    p, q = F.softmax(scratch / temperature, dim=1), F.softmax(student / temperature, dim=1)
    return temperature**2 * (p * (p.log() - q.log())).sum(dim=1).mean()


def attention_map(features):
    energy = (features * features).mean(dim=1).flatten(1)
    return energy / energy.norm(dim=1, keepdim=True)


def plain_training(config, splits, expert=None):
    """Trains scratch teacher and student side by side, both by the student's recipe.

    Returns:
        Both networks, the scratch teacher's logits of every epoch by position, and the mean over the images of
        the student's loss in every epoch.
    """
    recipe, method = config.train, config.method.values
    normalise = Normalise(splits.mean, splits.std)
    stream = Stream(splits.train, normalise, config.augment, derived_seed("stream", config.seed), torch.device("cpu"))
    scratch = build(config.teacher, splits.geometry, derived_seed("teacher", config.teachers.seed))
    student = build(config.student, splits.geometry, derived_seed("student", config.seed))
    scratch_sgd, student_sgd = PlainSGD(scratch, recipe), PlainSGD(student, recipe)
    said, losses = [], []
    for epoch in range(config.epochs):
        lr = recipe.lr * (recipe.gamma if epoch >= config.epochs / 2 else 1)  # one milestone, in the middle
        plan, heard, total = stream.plan(epoch), [], 0.0
        for start in range(0, len(stream), recipe.batch_size):
            images, labels = stream.views(plan, start, min(start + recipe.batch_size, len(stream)))
            scratch_logits, _ = scratch(images)
            heard.append(scratch_logits.detach().clone())
            logits, maps = student(images)
            loss = cross_entropy(logits, labels)
            if method["alpha"]:
                loss = loss + method["alpha"] * kl(logits, heard[-1], method["temperature"])
            if method["beta"]:
                with torch.no_grad():
                    _, expert_maps = expert.eval()(images)
                for layer in method["attention_layers"]:
                    gap = attention_map(maps[layer - 1]) - attention_map(expert_maps[layer - 1])
                    loss = loss + method["beta"] * (gap * gap).mean()
            total += loss.item() * len(labels)
            scratch_sgd.step(cross_entropy(scratch_logits, labels), lr)
            student_sgd.step(loss, lr)
        said.append(torch.cat(heard))
        losses.append(total / len(stream))
    return scratch, student, said, losses
