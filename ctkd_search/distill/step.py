"""One step of the student: forward, loss, backward, optimizer; run operation by operation, or as one CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from ctkd_search.config import Recipe
from ctkd_search.distill import losses
from ctkd_search.distill.around import Around, load_own_state, own_state
from ctkd_search.distill.engine import autocast, make_optimizer, set_lr
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import Method
from ctkd_search.models.network import TappedNetwork
from ctkd_search.text import one_line

_WARM_UP = 3


class StudentStep:
    """A student, its optimizer and its method, and what is done with them for each lesson.

    Args:
        network: What is trained, on `device`: the student, or what the method has built around it.
        method: How lessons become a loss.
        recipe: How it is trained.
        device: Where to compute.
    """

    def __init__(self, network: TappedNetwork | Around, method: Method, recipe: Recipe, device: torch.device) -> None:
        self.network = network
        self.student = network.student if isinstance(network, Around) else network
        self.method = method
        self.recipe = recipe
        self.device = device
        self.optimizer = make_optimizer(network, recipe)
        if not method.captured:
            # Such a step may leave some parameters out, and fused SGD cannot begin the momentum of one after another's.
            for parameter in self._parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def begin_epoch(self, epoch: int, epochs: int) -> float:
        """Makes ready for an epoch (from 0) of so many, and returns its learning rate."""
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
            answer = StudentOutput(*self.network(lesson.images))
        answer = answer._replace(logits=answer.logits.float())
        terms = self.method.terms(answer, lesson)
        loss = sum(terms.values(), torch.zeros((), device=self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        count = len(lesson.labels)
        summed = {name: value.detach() * count for name, value in {"loss": loss, **terms}.items()}
        return {**summed, "train_accuracy": losses.correct(answer.logits.detach(), lesson.labels)}

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate and keeps the momentum."""
        set_lr(self.optimizer, lr)

    def notes(self) -> list[str]:
        """What the user should know, a sentence each."""
        return []

    def restart(self, other: StudentStep) -> None:
        """Begins another trial in the same memory: the weights and numbers of a step that has not begun."""
        self.network.load_state_dict(other.network.state_dict())
        self.load_momentum([None] * len(self._parameters()))
        self.method.take_numbers(other.method)

    def state_dict(self) -> dict[str, Any]:
        """Weights and momentum; ``around``: what the training network holds beside the student."""
        momentum = [self.optimizer.state[parameter].get("momentum_buffer") for parameter in self._parameters()]
        around = own_state(self.network, self.student)
        return {"student": self.student.state_dict(), "momentum": momentum, **({"around": around} if around else {})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up weights and momentum, in the memory where they are."""
        self.student.load_state_dict(state["student"])
        load_own_state(self.network, self.student, state.get("around", {}))
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
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


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
        network: What is trained, on a CUDA device.
        method: How lessons become a loss.
        recipe: How it is trained.
        device: Where to compute.
        memory: Where graphs keep their activations and gradients. Those of one process can share it, because they are
            never replayed at the same time and write all that they read.
    """

    def __init__(
        self, network: TappedNetwork | Around, method: Method, recipe: Recipe, device: torch.device, memory: GraphMemory
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
        """Why there is no graph, once, if there is none."""
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
        # Warming up has trained; that is undone.
        self.network.load_state_dict(before)
        self.load_momentum(momentum)


def make_step(
    network: TappedNetwork | Around,
    method: Method,
    recipe: Recipe,
    device: torch.device,
    memory: GraphMemory | None = None,
) -> StudentStep:
    """The step that suits a device and a method: captured on CUDA where it can be, plain elsewhere."""
    if device.type == "cuda" and method.captured:
        return CapturedStep(network, method, recipe, device, memory or GraphMemory())
    return StudentStep(network, method, recipe, device)


class StepPool:
    """Steps kept from trial to trial in one process, so that a captured graph serves the next trial too.

    Args:
        most: How many steps of different structure are kept.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self.memory = GraphMemory()
        self._steps: OrderedDict[Hashable, StudentStep] = OrderedDict()

    def take(self, structure: Hashable, make: Callable[[], StudentStep]) -> StudentStep:
        """The step of a structure: made anew, or a kept one that begins again with the weights of a new one.

        Args:
            structure: All that a captured graph depends on.
            make: Makes the step.
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
    """A lesson in memory of its own, in the same layout."""
    return Lesson(
        lesson.images.clone(),
        lesson.labels.clone(),
        None if lesson.scratch_logits is None else lesson.scratch_logits.clone(),
        {request: said.clone() for request, said in lesson.expert_outputs.items()},
    )


def copy_lesson(lesson: Lesson, into: Lesson) -> None:
    """Copies a lesson into the memory of another of the same shape."""
    into.images.copy_(lesson.images)
    into.labels.copy_(lesson.labels)
    if into.scratch_logits is not None and lesson.scratch_logits is not None:
        into.scratch_logits.copy_(lesson.scratch_logits)
    for request, said in into.expert_outputs.items():
        said.copy_(lesson.expert_outputs[request])
