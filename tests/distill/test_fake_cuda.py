"""Everything that a trial computes stands on its device: whole epochs on CUDA tensors without numbers or a GPU.

Torch's fake tensors have a device, a shape and a type; an operation on tensors of two devices fails as it does on a
GPU. So the trainer itself is run: images gathered on the device, lessons recorded and live, autocast in bfloat16,
channels-last networks, losses, backward, fused optimizer, evaluation, state. Not seen by it:

- CUDA graphs and streams, which need a driver: the step falls back to single operations, as it says it does;
- generators of CUDA (the seeds of dropout), which cannot be made without one;
- a CPU tensor of no dimensions beside CUDA tensors, and indexing with a CPU index, which CUDA allows;
- values: reading one is allowed on any device, and gives something here.
"""

import contextlib
import dataclasses
import warnings

import numpy as np
import pytest
import torch
from support.augmented import AUGMENTED
from support.classroom import METHODS, PAIRS
from support.tiny import CPU, TINY, changed, prepare_teachers, tiny_splits
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ctkd_search.config import MethodConfig
from ctkd_search.data import file_stream
from ctkd_search.data.images import ImageFiles
from ctkd_search.distill import losses, step, teachers, trainer
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method, methods
from ctkd_search.distill.recording import Wanted, prepare, scratch_run
from ctkd_search.distill.step import CapturedStep, StudentStep
from ctkd_search.metrics import ON_REQUEST
from ctkd_search.models import describe
from ctkd_search.recipe import Recipe

pytestmark = pytest.mark.usefixtures("single_thread")

CUDA = torch.device("cuda:0")
# With class weights, which are a tensor that a step reads.
RECIPE = Recipe(batch_size=16, milestones=(0.5,), class_weights="balanced", precision="bfloat16")


def _move(module, fn, recurse=True):
    """What `torch.nn.Module._apply` does; torch's own swaps tensors in place, which fake ones do not allow."""
    for child in module.children() if recurse else ():
        _move(child, fn)
    for name, value in module._parameters.items():
        if value is not None:
            module._parameters[name] = torch.nn.Parameter(fn(value.detach()), value.requires_grad)
    for name, value in module._buffers.items():
        if value is not None:
            module._buffers[name] = fn(value)
    return module


def _numbers(tensor):
    """What `numpy` gives of a CPU tensor, of zeros; of a CUDA tensor there is none."""
    if tensor.device.type != "cpu":
        raise TypeError("can't convert a CUDA tensor to numpy; use Tensor.cpu() first")
    return np.zeros(tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


def _nodes(node, seen):
    """The nodes behind one, each after those that lead to it in reverse."""
    seen.add(node)
    for other, _ in node.next_functions:
        if other is not None and other not in seen:
            yield from _nodes(other, seen)
    yield node


def _backward(loss):
    """What torch's engine does, which asks CUDA for its streams: every node of the graph once, gradients added up."""
    arrived = {loss.grad_fn: {0: torch.ones_like(loss)}}
    for node in reversed(list(_nodes(loss.grad_fn, set()))):
        gradients = arrived.pop(node)
        if hasattr(node, "variable"):
            node.variable.grad = gradients[0] if node.variable.grad is None else node.variable.grad + gradients[0]
            continue
        handed = [gradients.get(number) for number in range(len(node._input_metadata))]
        found = node.apply(*handed) if isinstance(node, torch.autograd.function.BackwardCFunction) else node(*handed)
        found = found if isinstance(found, tuple) else (found,)
        for (other, number), gradient in zip(node.next_functions, found, strict=True):
            if other is not None and gradient is not None:
                wanted, before = other._input_metadata[number], arrived.setdefault(other, {})
                if gradient.device != wanted.device:
                    raise RuntimeError(f"{other}: gradients must be on the same device as what they are of")
                # As the engine does for what was broadcast or cast.
                gradient = gradient.sum_to_size(wanted.shape).to(wanted.dtype)
                before[number] = before[number] + gradient if number in before else gradient


def _fused_sgd(parameters, gradients, buffers, *, lr, **options):
    """Torch's own has no form without numbers: all that it reads must be where the parameters are."""
    for lists in (gradients, buffers):
        for parameter, other in zip(parameters, lists, strict=True) if lists else ():
            parameter.add_(other * lr)


def _value(tensor):
    return {torch.bool: True}.get(tensor.dtype, 0.5 if tensor.is_floating_point() else 1)


def _no_driver():
    raise RuntimeError("Found no NVIDIA driver on your system")


@pytest.fixture
def fake_cuda(monkeypatch):
    """A mode in which CUDA tensors can be computed with, without numbers; where there is a GPU, it is left alone."""
    monkeypatch.setattr(torch.cuda, "Stream", _no_driver)
    monkeypatch.setattr(torch.nn.Module, "_apply", _move)
    monkeypatch.setattr(FakeTensor, "numpy", _numbers, raising=False)
    monkeypatch.setattr(FakeTensor, "item", _value, raising=False)
    monkeypatch.setattr(FakeTensor, "__bool__", lambda tensor: bool(_value(tensor)), raising=False)
    monkeypatch.setattr(
        FakeTensor, "tolist", lambda tensor: np.full(tuple(tensor.shape), _value(tensor)).tolist(), raising=False
    )
    # Without numbers, every place is one that is looked for.
    monkeypatch.setattr(
        FakeTensor,
        "nonzero",
        lambda tensor: torch.arange(len(tensor), device=tensor.device).unsqueeze(1),
        raising=False,
    )
    monkeypatch.setattr(torch, "_fused_sgd_", _fused_sgd)
    monkeypatch.setattr(FakeTensor, "backward", _backward, raising=False)
    # A learning rate in a tensor is asked whether it is negative.
    less = torch.Tensor.__lt__
    monkeypatch.setattr(
        FakeTensor, "__lt__", lambda one, other: less(one, other) if one.dim() else False, raising=False
    )
    # Autocast looks for a GPU, and generators need one.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    for module in (trainer, teachers):
        monkeypatch.setattr(module, "drawing", lambda device, seed: contextlib.nullcontext())
    monkeypatch.setattr(step, "draws_restored", lambda device: contextlib.nullcontext())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with FakeTensorMode(allow_non_fake_inputs=False, shape_env=ShapeEnv()) as mode:
            yield mode


def config_of(method, mode, epochs=2):
    made = make_method(method)
    teacher, student = next(pair for pair in PAIRS if made.fault(*map(describe, pair)) is None)
    config = dataclasses.replace(TINY, teacher=teacher, student=student, method=method, epochs=epochs, train=RECIPE)
    config = dataclasses.replace(config, metrics=tuple(ON_REQUEST))
    return changed(changed(config, "teachers.mode", mode), "teachers.recipe", RECIPE)


def defaults(name):
    return MethodConfig(name, {item.name: item.default for item in methods()[name].parameters})


def variants(name):
    """A method's defaults, and whatever builds something else: every choice, and terms that are off by default."""
    values = defaults(name).values
    values = values | ({"anchors": 2} if "anchors" in values else {})
    yield MethodConfig(name, values)
    everything = dict(values)
    for item in methods()[name].parameters:
        if item.kind == "choice":
            everything[item.name] = next(choice for choice in reversed(item.choices) if choice != item.default)
        elif item.kind == "float" and not item.default:
            everything[item.name] = 0.5
    yield MethodConfig(name, everything)


def devices(state):
    if isinstance(state, torch.Tensor):
        return {str(state.device)}
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return set().union(*map(devices, parts)) if parts else set()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return TeacherCache(tmp_path_factory.mktemp("teachers"))


@pytest.fixture(scope="module")
def images():
    return tiny_splits(12, 12)


@METHODS
def test_an_epoch_of_every_method_stays_on_its_device(name, images, kept, request):
    # Its defaults with lessons that were recorded, all else that it knows with live ones.
    first, everything = variants(name)
    configs = [config_of(first, "recorded"), config_of(everything, "live")]
    for config in configs:
        prepare_teachers(config, images, kept)  # with numbers, on the CPU
    request.getfixturevalue("fake_cuda")
    for config in configs:
        found = make_trainer(config, images, kept, CUDA)
        assert type(found.step) is (CapturedStep if found.step.method.captured else StudentStep)
        told = found.run_epoch()
        assert {"loss", "train_accuracy", *(f"validation_{key}" for key in ON_REQUEST)} <= told.keys()
        state = found.state_dict()
        assert devices(state["student"]) == devices(state["optimizer"]["state"]) == {"cuda:0"}
        found.step.load_state_dict(state)
        assert devices(found.state_dict()["optimizer"]["state"]) == {"cuda:0"}


def test_a_teacher_is_trained_and_recorded_on_its_device(images, tmp_path, fake_cuda, monkeypatch):
    written = {}
    cache = TeacherCache(tmp_path)
    # A state without numbers cannot be saved.
    monkeypatch.setattr(cache, "write_state", lambda name, state, about=None: written.update({name: state}))
    config = config_of(defaults("ctkd"), "recorded")
    run = scratch_run(config, images.fingerprint, CUDA, len(images.train))
    told = list(prepare(run, images, cache, CUDA, Wanted("float16", anchors=(1,))))
    assert told[-1].done
    assert told[-1].accuracy is not None
    assert devices(written[run.expert()]) == {"cuda:0"}
    assert cache.read_array(run.logits(0, "float16")).shape == (12, 10)
    assert config.teachers.mode == "recorded"


@pytest.mark.parametrize("augment", [TINY.augment, AUGMENTED["everything"]], ids=["plain", "everything"])
def test_streamed_images_come_to_the_device(tmp_path, fake_cuda, augment):
    from PIL import Image

    for number in range(6):
        Image.fromarray(np.full((8, 8), number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    said = {"classes": ("a", "b"), "what": "images", "size": 8, "channels": 3, "workers": 0}
    files = ImageFiles.at(tmp_path, paths, [0, 1] * 3, **said)
    normalise = file_stream.Normalise((127.0,) * 3, (64.0,) * 3).to(CUDA)
    stream = file_stream.stream_of(files, normalise, augment, 0, CUDA)
    for seen, labels in [stream.views(stream.plan(0), 0, 4)]:
        assert (seen.device, labels.device) == (CUDA, CUDA)


def on_the_cpu(kind, original):
    """A loss with a mistake of devices in it."""

    def mistaken(student, teacher, temperature):
        loss = original(student, teacher, temperature)
        if kind == "index":
            return loss + student.gather(1, torch.zeros(len(student), 1, dtype=torch.int64)).sum() * 0
        if kind == "mask":
            return loss + torch.where(torch.ones(len(student)).bool(), student[:, 0], 0).sum() * 0
        if kind == "permutation":
            return loss + (student[:, 0] * torch.randperm(len(student))).sum() * 0
        if kind == "numpy":
            return loss + float(student.detach().numpy().sum()) * 0
        return loss + (student.cpu() * teacher).sum() * 0

    return mistaken


@pytest.mark.parametrize("kind", ["index", "mask", "permutation", "numpy", "moved"])
def test_a_tensor_on_the_wrong_device_is_noticed(kind, images, kept, request, monkeypatch):
    config = config_of(defaults("kd"), "recorded")
    prepare_teachers(config, images, kept)
    monkeypatch.setattr(losses, "softened_divergence", on_the_cpu(kind, losses.softened_divergence))
    on_cpu = make_trainer(config, images, kept, CPU)
    assert np.isfinite(on_cpu.run_epoch()["loss"])  # there it is no mistake
    request.getfixturevalue("fake_cuda")
    with pytest.raises((RuntimeError, TypeError), match=r"same device|different devices|to numpy"):
        make_trainer(config, images, kept, CUDA).run_epoch()
