"""One step of the student: forward, loss, backward, optimizer; run operation by operation, or as one CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from ctkd_search.config import Recipe
from ctkd_search.distill import losses
from ctkd_search.distill.engine import autocast, make_optimizer, set_lr
from ctkd_search.distill.methods.base import Method
from ctkd_search.distill.teachers import Lesson
from ctkd_search.models.network import TappedNetwork

_WARM_UP = 3


class StudentStep:
    """A student, its optimizer and its method, and what is done with them for each lesson.

    Args:
        student: The student, on `device`.
        method: How lessons become a loss.
        recipe: How it is trained.
        device: Where to compute.
    """

    def __init__(self, student: TappedNetwork, method: Method, recipe: Recipe, device: torch.device) -> None:
        self.student = student
        self.method = method
        self.recipe = recipe
        self.device = device
        self.optimizer = make_optimizer(student, recipe)

    def __call__(self, lesson: Lesson) -> dict[str, Tensor]:
        """Learns from one lesson.

        Returns:
            Sums over the batch of the loss, of its terms, and of the right predictions, left on the device so
            that nothing waits for them. The next call may write over them.
        """
        with autocast(self.recipe.precision, self.device):
            logits, maps = self.student(lesson.images)
        logits = logits.float()
        terms = self.method.terms(logits, maps, lesson)
        loss = sum(terms.values(), torch.zeros((), device=self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        count = len(lesson.labels)
        summed = {name: value.detach() * count for name, value in {"loss": loss, **terms}.items()}
        return {**summed, "train_accuracy": losses.correct(logits.detach(), lesson.labels)}

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate and keeps the momentum."""
        set_lr(self.optimizer, lr)

    def notes(self) -> list[str]:
        """What the user should know, a sentence each."""
        return []

    def restart(self, weights: Mapping[str, Tensor], method: Method) -> None:
        """Begins another trial in the same memory: other initial weights, other numbers in the same method."""
        self.student.load_state_dict(dict(weights))
        self.load_momentum([None] * len(self._parameters()))
        self.method.take_numbers(method)

    def state_dict(self) -> dict[str, Any]:
        """Weights and momentum."""
        momentum = [self.optimizer.state[parameter].get("momentum_buffer") for parameter in self._parameters()]
        return {"student": self.student.state_dict(), "momentum": momentum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up weights and momentum, in the memory where they are."""
        self.student.load_state_dict(state["student"])
        self.load_momentum(state["momentum"])

    def load_momentum(self, momentum: list[Tensor | None]) -> None:
        """Sets the optimizer's momentum; None is that of an optimizer before its first step."""
        for parameter, kept in zip(self._parameters(), momentum, strict=True):
            state = self.optimizer.state[parameter]
            buffer = state.get("momentum_buffer")
            if buffer is not None:
                # Zero is what the first step makes of none.
                buffer.zero_() if kept is None else buffer.copy_(kept)
            elif kept is not None:
                state["momentum_buffer"] = torch.empty_like(parameter).copy_(kept)

    def _parameters(self) -> list[torch.nn.Parameter]:
        return list(self.student.parameters())


class GraphMemory:
    """The memory that the captured graphs of a process share."""

    def __init__(self) -> None:
        self._handle: Any = None

    def handle(self) -> Any:
        """What torch.cuda.graph takes as its pool."""
        if self._handle is None:
            self._handle = torch.cuda.graph_pool_handle()
        return self._handle


class CapturedStep(StudentStep):
    """The same step, captured once as a CUDA graph and replayed: hundreds of small kernels in one launch.

    What changes from step to step and from trial to trial stands in tensors that the graph reads: the lesson, the
    learning rate, and the numbers of the method. So one graph serves every trial of the same structure. A batch of
    another size, the last of an epoch say, is run operation by operation.

    Args:
        student: The student, on a CUDA device.
        method: How lessons become a loss.
        recipe: How it is trained.
        device: Where to compute.
        memory: Where graphs keep their activations and gradients. Those of one process can share it, because they are
            never replayed at the same time and write all that they read.
    """

    def __init__(
        self, student: TappedNetwork, method: Method, recipe: Recipe, device: torch.device, memory: GraphMemory
    ) -> None:
        super().__init__(student, method, recipe, device)
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
        """Why there is no graph, once, if there is none."""
        notes, self._notes = self._notes, []
        return notes

    def _capture(self, lesson: Lesson) -> None:
        self._inputs = clone_lesson(lesson)
        before = {name: value.clone() for name, value in self.student.state_dict().items()}
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
            self._refused = str(error).splitlines()[0][:120]
            self._notes.append(f"the student's step could not be captured as a CUDA graph ({self._refused})")
        # Warming up has trained; that is undone.
        self.student.load_state_dict(before)
        self.load_momentum(momentum)


def make_step(
    student: TappedNetwork, method: Method, recipe: Recipe, device: torch.device, memory: GraphMemory | None = None
) -> StudentStep:
    """The step that suits a device: captured on CUDA, plain elsewhere."""
    if device.type == "cuda":
        return CapturedStep(student, method, recipe, device, memory or GraphMemory())
    return StudentStep(student, method, recipe, device)


class StepPool:
    """Steps kept from trial to trial in one process, so that a captured graph serves the next trial too.

    Args:
        most: How many steps of different structure are kept.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self.memory = GraphMemory()
        self._steps: OrderedDict[Hashable, StudentStep] = OrderedDict()

    def take(self, structure: Hashable, make: Callable[[], StudentStep], method: Method) -> StudentStep:
        """The step of a structure: made anew, or a kept one that begins again with the weights of a new one.

        Args:
            structure: All that a captured graph depends on.
            make: Makes the step.
            method: The method with the trial's numbers.
        """
        fresh = make()
        kept = self._steps.pop(structure, None)
        if kept is None:
            kept = fresh
        else:
            kept.restart(fresh.student.state_dict(), method)
        self._steps[structure] = kept
        while len(self._steps) > self._most:
            self._steps.popitem(last=False)
        return kept


def clone_lesson(lesson: Lesson) -> Lesson:
    """A lesson in memory of its own, in the same layout."""
    return Lesson(
        lesson.images.clone(),
        lesson.labels.clone(),
        None if lesson.scratch_logits is None else lesson.scratch_logits.clone(),
        {layer: maps.clone() for layer, maps in lesson.expert_says.items()},
    )


def copy_lesson(lesson: Lesson, into: Lesson) -> None:
    """Copies a lesson into the memory of another of the same shape."""
    into.images.copy_(lesson.images)
    into.labels.copy_(lesson.labels)
    if into.scratch_logits is not None and lesson.scratch_logits is not None:
        into.scratch_logits.copy_(lesson.scratch_logits)
    for layer, maps in into.expert_says.items():
        maps.copy_(lesson.expert_says[layer])
