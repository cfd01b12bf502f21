"""One step of the student: forward, loss, backward, optimizer; run operation by operation, or as one CUDA graph."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from ctkd_search.distill import losses
from ctkd_search.distill.engine import autocast, make_optimizer, set_lr
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import Method
from ctkd_search.distill.training_network import TrainingNetwork, load_own_state, own_state
from ctkd_search.models.network import TappedNetwork
from ctkd_search.recipe import Recipe
from ctkd_search.text import one_line

_WARM_UP = 3
# All of a lesson but the expert's outputs.
_TENSORS = tuple(item.name for item in dataclasses.fields(Lesson) if item.name != "expert_outputs")


class StudentStep:
    """A training step: a student, its optimizer and its method, applied to one lesson after another.

    Args:
        network: Training network, on `device`: the student, or a `TrainingNetwork` that holds it.
        method: Method that computes the loss of a lesson.
        recipe: Training recipe.
        device: Device to compute on.
    """

    def __init__(
        self, network: TappedNetwork | TrainingNetwork, method: Method, recipe: Recipe, device: torch.device
    ) -> None:
        self.network = network
        self.student = network.student if isinstance(network, TrainingNetwork) else network
        self.method = method
        self.recipe = recipe
        self.device = device
        self.optimizer = make_optimizer(network, recipe)
        if not method.captured:
            # Such a step may leave some parameters out, and fused SGD cannot begin the momentum of one after another's.
            for parameter in self._parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def begin_epoch(self, epoch: int, epochs: int) -> float:
        """Prepares for an epoch (from 0) of `epochs`, and returns its learning rate."""
        lr = self.recipe.lr_at(epoch, epochs)
        self.network.train()
        self.set_lr(lr)
        self.method.begin_epoch(epoch, epochs)
        return lr

    def __call__(self, lesson: Lesson) -> dict[str, Tensor]:
        """Learns from one lesson.

        Returns:
            Sums over the batch of the loss, of its terms, and of the right predictions, left on the device so
            that nothing waits for them. The next call may write over them.
        """
        with autocast(self.recipe.precision, self.device):
            output = StudentOutput(*self.network(lesson.images))
        output = output._replace(logits=output.logits.float())
        terms = self.method.terms(output, lesson)
        loss = sum(terms.values(), torch.zeros((), device=self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        count = len(lesson.labels)
        summed = {name: value.detach() * count for name, value in {"loss": loss, **terms}.items()}
        return {**summed, "train_accuracy": losses.correct(output.logits.detach(), lesson.labels)}

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate and keeps the momentum."""
        set_lr(self.optimizer, lr)

    def notes(self) -> list[str]:
        """Returns notes for the user, a sentence each."""
        return []

    def restart(self, other: StudentStep) -> None:
        """Begins another trial in the same memory, with the weights and numbers of a step that has not begun."""
        self.network.load_state_dict(other.network.state_dict())
        self.load_momentum([None] * len(self._parameters()))
        self.method.take_numbers(other.method)

    def state_dict(self) -> dict[str, Any]:
        """Returns weights and momentum; ``around`` is the state of the training network without its student's."""
        momentum = [self.optimizer.state[parameter].get("momentum_buffer") for parameter in self._parameters()]
        own = own_state(self.network, self.student)
        return {"student": self.student.state_dict(), "momentum": momentum, **({"around": own} if own else {})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads weights and momentum into the memory that they are in."""
        self.student.load_state_dict(state["student"])
        load_own_state(self.network, self.student, state.get("around", {}))
        self.load_momentum(state["momentum"])

    def load_momentum(self, momentum: list[Tensor | None]) -> None:
        """Sets the optimizer's momentum; None is that of an optimizer before its first step."""
        for parameter, kept in zip(self._parameters(), momentum, strict=True):
            state = self.optimizer.state[parameter]
            buffer = state.get("momentum_buffer")
            if buffer is not None:
                # To the first step, no momentum is a momentum of zero.
                buffer.zero_() if kept is None else buffer.copy_(kept)
            elif kept is not None:
                state["momentum_buffer"] = torch.empty_like(parameter).copy_(kept)

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


class GraphMemory:
    """The memory that the captured graphs of a process share."""

    def __init__(self) -> None:
        self._handle: Any = None

    def handle(self) -> Any:
        """Returns the pool for torch.cuda.graph."""
        if self._handle is None:
            self._handle = torch.cuda.graph_pool_handle()
        return self._handle


class CapturedStep(StudentStep):
    """A training step that is captured once as a CUDA graph and replayed: hundreds of small kernels in one launch.

    The graph reads all that changes from step to step and from trial to trial from tensors: the lesson, the learning
    rate, and the numbers of the method. So one graph serves every trial of the same structure. A batch of another size,
    as the last one of an epoch, is run operation by operation.

    Args:
        network: Training network, on a CUDA device.
        method: Method that computes the loss of a lesson.
        recipe: Training recipe.
        device: Device to compute on.
        memory: Memory for the activations and gradients of graphs. Those of one process can share it, because they are
            never replayed at the same time and write all that they read.
    """

    def __init__(
        self,
        network: TappedNetwork | TrainingNetwork,
        method: Method,
        recipe: Recipe,
        device: torch.device,
        memory: GraphMemory,
    ) -> None:
        super().__init__(network, method, recipe, device)
        method.numbers_to(device)
        self._memory = memory
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Lesson | None = None
        self._outputs: dict[str, Tensor] = {}
        self._refused: str | None = None
        self._notes: list[str] = []

    def __call__(self, lesson: Lesson) -> dict[str, Tensor]:
        """Learns from one lesson."""
        if self._inputs is None and self._refused is None:
            self._capture(lesson)
        if self._graph is None or self._inputs is None or lesson.labels.shape != self._inputs.labels.shape:
            return super().__call__(lesson)
        copy_lesson(lesson, self._inputs)
        self._graph.replay()
        return self._outputs

    def notes(self) -> list[str]:
        """Returns why there is no graph, once, if there is none."""
        notes, self._notes = self._notes, []
        return notes

    def _capture(self, lesson: Lesson) -> None:
        self._inputs = clone_lesson(lesson)
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        momentum = [None if kept is None else kept.clone() for kept in self.state_dict()["momentum"]]
        try:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                # Libraries choose their kernels and the optimizer makes its buffers before anything is captured.
                for _ in range(_WARM_UP):
                    super().__call__(self._inputs)
            torch.cuda.current_stream().wait_stream(aside)
            self.optimizer.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._memory.handle()):
                self._outputs = super().__call__(self._inputs)
            self._graph = graph
        except RuntimeError as error:
            self._inputs, self._graph = None, None
            self._refused = one_line(str(error), 120)
            self._notes.append(f"the student's step could not be captured as a CUDA graph ({self._refused})")
        # The warm-up has changed weights and momentum; they are restored.
        self.network.load_state_dict(before)
        self.load_momentum(momentum)


def make_step(
    network: TappedNetwork | TrainingNetwork,
    method: Method,
    recipe: Recipe,
    device: torch.device,
    memory: GraphMemory | None = None,
) -> StudentStep:
    """Returns the training step for a device and a method: captured on CUDA if the method can be, plain elsewhere."""
    if device.type == "cuda" and method.captured:
        return CapturedStep(network, method, recipe, device, memory or GraphMemory())
    return StudentStep(network, method, recipe, device)


class StepPool:
    """Steps kept from trial to trial in one process, so that a captured graph serves the next trial too.

    Args:
        most: Number of steps of different structure that are kept.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self.memory = GraphMemory()
        self._steps: OrderedDict[Hashable, StudentStep] = OrderedDict()

    def take(self, structure: Hashable, make: Callable[[], StudentStep]) -> StudentStep:
        """Returns the step of a structure: a new one, or a kept one that begins again with the weights of a new one.

        Args:
            structure: All that a captured graph depends on.
            make: Creates the step.
        """
        fresh = make()
        kept = self._steps.pop(structure, None)
        if kept is None:
            kept = fresh
        else:
            kept.restart(fresh)
        self._steps[structure] = kept
        while len(self._steps) > self._most:
            self._steps.popitem(last=False)
        return kept


def clone_lesson(lesson: Lesson) -> Lesson:
    """Returns a copy of a lesson in the same memory layout."""
    outputs = {output: values.clone() for output, values in lesson.expert_outputs.items()}
    tensors = {name: getattr(lesson, name) for name in _TENSORS}
    copies: dict[str, Any] = {name: None if tensor is None else tensor.clone() for name, tensor in tensors.items()}
    return Lesson(**copies, expert_outputs=outputs)


def copy_lesson(lesson: Lesson, into: Lesson) -> None:
    """Copies a lesson into the memory of another of the same shape."""
    for name in _TENSORS:
        own, other = getattr(into, name), getattr(lesson, name)
        if own is not None and other is not None:
            own.copy_(other)
    for output, values in into.expert_outputs.items():
        values.copy_(lesson.expert_outputs[output])
