"""One step of the student: forward, loss, backward, optimizer; run operation by operation, or as one CUDA graph."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ctkd_search.distill import losses, optimizers
from ctkd_search.distill.average import Average
from ctkd_search.distill.engine import autocast, draws_restored
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import Method
from ctkd_search.distill.training_network import TrainingNetwork, load_own_state, own_state
from ctkd_search.errors import UserError
from ctkd_search.models.network import TappedNetwork
from ctkd_search.recipe import Recipe
from ctkd_search.text import one_line

_WARM_UP = 3
# Tensors of a lesson, besides the expert's outputs.
_TENSORS = ("images", "labels", "scratch_logits", "average_logits", "partners", "shares", "indices")


class StudentStep:
    """A training step: a student, its optimizer and its method, applied to one lesson after another.

    Args:
        network: Training network, on `device`: the student, or a `TrainingNetwork` that holds it.
        method: Method that computes the loss of a lesson.
        recipe: Training recipe.
        device: Device to compute on.
        notes: Notes for the user.
        class_weights: Weight of each class in the cross-entropy, shape (classes,), on `device`; None for 1.
    """

    def __init__(
        self,
        network: TappedNetwork | TrainingNetwork,
        method: Method,
        recipe: Recipe,
        device: torch.device,
        notes: Sequence[str] = (),
        class_weights: Tensor | None = None,
    ) -> None:
        self.network = network
        self.student = network.student if isinstance(network, TrainingNetwork) else network
        self.method = method
        self.recipe = recipe
        self.device = device
        self.class_weights = class_weights
        self.optimizer = self._new_optimizer()
        self.average = Average(self.student, recipe.average) if recipe.average else None
        self._schedule: Iterator[float] = iter(())
        self._steps = 1
        self._notes = list(notes)

    def judged(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which the student has the weights that it is judged by: its own, or their average."""
        return self.average.in_place() if self.average else contextlib.nullcontext()

    def begin_epoch(self, epoch: int, epochs: int, steps: int = 1) -> None:
        """Prepares for an epoch.

        Args:
            epoch: The epoch, from 0.
            epochs: Epochs that the learning-rate schedule spans.
            steps: Steps of the epoch.
        """
        self.network.train()
        self._steps = steps
        self._schedule = (self.recipe.lr_at(epoch, epochs, step, steps) for step in range(steps))
        self.method.begin_epoch(epoch, epochs)

    @property
    def lr(self) -> float:
        """Returns the learning rate of the last step."""
        return self._lr

    def __call__(self, lesson: Lesson) -> dict[str, Tensor]:
        """Learns from one lesson.

        Returns:
            Sums over the batch of the loss, of its terms, and of the right predictions, left on the device so
            that nothing waits for them. The next call may write over them.
        """
        lr = next(self._schedule, self._lr)
        if lr != self._lr:
            self.set_lr(lr)
        sums = self._learn(lesson)
        if self.average:
            self.average.follow(self._steps)
        return sums

    def _learn(self, lesson: Lesson) -> dict[str, Tensor]:
        with autocast(self.recipe.precision, self.device):
            output = StudentOutput(*self.network(lesson.images))
        output = output._replace(logits=output.logits.float())
        smoothing = self.recipe.label_smoothing
        lesson = dataclasses.replace(lesson, smoothing=smoothing, class_weights=self.class_weights)
        terms = self.method.terms(output, lesson)
        loss = sum(terms.values(), torch.zeros((), device=self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizers.step(self.optimizer, self.recipe.clip)
        count = len(lesson.labels)
        summed = {name: value.detach() * count for name, value in {"loss": loss, **terms}.items()}
        return {**summed, "train_accuracy": losses.correct(output.logits.detach(), lesson.labels)}

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate and keeps the rest of the optimizer's state."""
        optimizers.set_lr(self.optimizer, lr)
        self._lr = lr

    def notes(self) -> list[str]:
        """Returns notes for the user, a sentence each, once."""
        notes, self._notes = self._notes, []
        return notes

    def restart(self, other: StudentStep) -> None:
        """Begins another trial in the same memory, with the weights and numbers of a step that has not begun."""
        self.network.load_state_dict(other.network.state_dict())
        self.recipe = other.recipe
        if optimizers.is_captured(self.recipe):
            optimizers.put_state(self.optimizer, {})
        else:
            self.optimizer = self._new_optimizer()
        self.average = Average(self.student, self.recipe.average) if self.recipe.average else None
        self.set_lr(self.recipe.lr)
        self.method.take_numbers(other.method)
        if self.class_weights is not None and other.class_weights is not None:
            self.class_weights.copy_(other.class_weights)

    def state_dict(self) -> dict[str, Any]:
        """Returns weights and the optimizer's state.

        ``student`` are the weights that the student is judged by; where they are a running average, ``trained`` are
        those that the training goes on with. ``around`` is the state of the training network without its student's.
        """
        trained = self.student.state_dict()
        state: dict[str, Any] = {"student": trained, "optimizer": self.optimizer.state_dict()}
        if self.average:
            state |= {"student": self.average.weights, "trained": trained, "averaged": self.average.count}
        own = own_state(self.network, self.student)
        return {**state, **({"around": own} if own else {})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads weights and the optimizer's state into the memory that they are in."""
        self.student.load_state_dict(state.get("trained", state["student"]))
        if self.average:
            self.average.load(state["student"], state["averaged"])
        load_own_state(self.network, self.student, state.get("around", {}))
        if optimizers.is_captured(self.recipe):
            optimizers.put_state(self.optimizer, state["optimizer"])
        else:
            self.optimizer.load_state_dict(state["optimizer"])
            # With the state comes the rate of its last step, which is not the one that is known here.
            self.set_lr(self._lr)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        made = optimizers.make_optimizer(self.network, self.recipe)
        self._lr = self.recipe.lr
        if not self.method.captured:
            # Such a step may leave some parameters out.
            optimizers.begin_momentum(made)
        return made


class GraphMemory:
    """The memory that the captured graphs of a process share."""

    def __init__(self) -> None:
        self._handle: Any = None
        # A handle serves no further graph once all of its graphs have gone.
        self._first: torch.cuda.CUDAGraph | None = None
        self._broken = False

    def capture(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Returns the graph of some work on the GPU.

        Raises:
            RuntimeError: The work cannot be captured, or an earlier capture broke off: after that torch cannot be
                trusted to capture anything in this process.
        """
        if self._broken:
            raise RuntimeError("an earlier capture broke off")
        if self._handle is None:
            self._handle = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        self._broken = True
        # Other threads of this process may use the GPU meanwhile: one moves decoded images into pinned memory.
        with torch.cuda.graph(graph, pool=self._handle, capture_error_mode="thread_local"):
            work()
        self._broken = False
        self._first = self._first or graph
        return graph


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
        class_weights: Weight of each class in the cross-entropy, shape (classes,), on `device`; None for 1.
    """

    def __init__(
        self,
        network: TappedNetwork | TrainingNetwork,
        method: Method,
        recipe: Recipe,
        device: torch.device,
        memory: GraphMemory,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__(network, method, recipe, device, class_weights=class_weights)
        method.numbers_to(device)
        self._memory = memory
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Lesson | None = None
        self._outputs: dict[str, Tensor] = {}
        self._refused: str | None = None

    def _learn(self, lesson: Lesson) -> dict[str, Tensor]:
        if self._inputs is None and self._refused is None:
            # The first steps of a trial draw the same numbers whether its graph is new or an earlier trial's.
            with draws_restored(self.device):
                self._capture(lesson)
        if self._graph is None or self._inputs is None or not has_form(lesson, self._inputs):
            return super()._learn(lesson)
        copy_lesson(lesson, self._inputs)
        self._graph.replay()
        return self._outputs

    def _capture(self, lesson: Lesson) -> None:
        self._inputs = clone_lesson(lesson)
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        optimizer = optimizers.copied_state(self.optimizer)
        streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        try:
            streams = own, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(own)
            with torch.cuda.stream(aside):
                # Libraries choose their kernels and the optimizer makes its buffers before anything is captured.
                for _ in range(_WARM_UP - 1):
                    super()._learn(self._inputs)
                # Found here, a step that waits has no consequences; found in a capture, it would break that off.
                with _no_waiting():
                    super()._learn(self._inputs)
            own.wait_stream(aside)
            self.optimizer.zero_grad(set_to_none=True)
            self._graph = self._memory.capture(self._into_outputs)
        except torch.OutOfMemoryError:
            raise  # without a graph the step takes as much
        except (RuntimeError, UserError) as error:
            # A user's method tells torch's errors as its own; what is wrong on any device, the plain step says again.
            self._inputs, self._graph = None, None
            self._refused = one_line(str(error), 120)
            self._notes.append(f"the student's step could not be captured as a CUDA graph ({self._refused})")
        finally:
            if streams:
                # A capture that broke off leaves its own stream as the current one.
                torch.cuda.set_stream(streams[0])
                streams[0].wait_stream(streams[1])
        # The warm-up has changed weights and the optimizer's state; they are restored.
        self.network.load_state_dict(before)
        optimizers.put_state(self.optimizer, optimizer)

    def _into_outputs(self) -> None:
        assert self._inputs is not None
        self._outputs = super()._learn(self._inputs)


@contextlib.contextmanager
def _no_waiting() -> Iterator[None]:
    """Lets whatever waits for the GPU, as `.item()` does, raise a RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    _tell_waiting("error")
    try:
        yield
    finally:
        _tell_waiting(before)


def _tell_waiting(mode: int | str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch does not find everything that waits
        torch.cuda.set_sync_debug_mode(mode)


def make_step(
    network: TappedNetwork | TrainingNetwork,
    method: Method,
    recipe: Recipe,
    device: torch.device,
    memory: GraphMemory | None = None,
    class_weights: Tensor | None = None,
) -> StudentStep:
    """Returns the training step: captured on CUDA if the method and the optimizer can be, plain elsewhere."""
    notes = []
    if device.type == "cuda" and method.captured:
        if optimizers.is_captured(recipe):
            return CapturedStep(network, method, recipe, device, memory or GraphMemory(), class_weights)
        notes = [f"steps of optimizer {recipe.optimizer} are not captured as a CUDA graph, and take longer"]
    return StudentStep(network, method, recipe, device, notes, class_weights)


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


def has_form(lesson: Lesson, other: Lesson) -> bool:
    """Returns whether a lesson has the size of another's batch and of its expert's outputs."""
    if lesson.labels.shape != other.labels.shape or lesson.expert_outputs.keys() != other.expert_outputs.keys():
        return False
    return all(values.shape == other.expert_outputs[output].shape for output, values in lesson.expert_outputs.items())


def copy_lesson(lesson: Lesson, into: Lesson) -> None:
    """Copies a lesson into the memory of another of the same shape."""
    for name in _TENSORS:
        own, other = getattr(into, name), getattr(lesson, name)
        if own is not None and other is not None:
            own.copy_(other)
    for output, values in into.expert_outputs.items():
        values.copy_(lesson.expert_outputs[output])
