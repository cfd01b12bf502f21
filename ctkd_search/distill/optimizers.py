"""Optimizers by a recipe: PyTorch's own where a step is captured, and those of timm."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctkd_search.errors import UserError
from ctkd_search.recipe import SGD, WITH_MOMENTUM, Recipe

# Their steps are the same operations every time, which read the learning rate from a tensor, and their state begins
# as zeros: so they can be captured as a CUDA graph, and begun again in the same memory.
_CAPTURED: dict[str, Callable[..., torch.optim.Optimizer]] = {
    SGD: torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
# Arguments that the recipe has settings of its own for, and those that decide about speed or the program alone.
_NOT_OPTIONS = {
    *("self", "params", "lr", "weight_decay", "momentum", "foreach", "fused", "capturable", "differentiable"),
    *("maximize", "verbose"),
}
# Such an optimizer changes matrices by their directions, and leaves the rest to another one.
_OF_MATRICES = ("muon", "nmuon", "adamuon", "nadamuon")


def is_captured(recipe: Recipe) -> bool:
    """Returns whether a step with a recipe's optimizer can be captured as a CUDA graph."""
    # The first gradient is not dampened, so that the state of SGD with dampening does not begin as zeros.
    return recipe.optimizer in _CAPTURED and "dampening" not in (recipe.optimizer_options or {})


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns a recipe's optimizer, over every parameter of a network that requires a gradient.

    On CUDA the learning rate of an optimizer that is captured is a tensor, so that the graph reads its current value.

    Raises:
        UserError: The network has nothing that the optimizer is for.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if recipe.optimizer in _OF_MATRICES and not any(parameter.ndim > 1 for parameter in parameters):
        raise UserError(f"optimizer {recipe.optimizer} changes matrices, and the network has none; choose another one")
    groups = _groups(parameters, recipe)
    known = _CAPTURED.get(recipe.optimizer)
    if known is None:
        return _of_timm(groups, recipe)
    on_cuda = parameters[0].device.type == "cuda"
    options = options_of(recipe) if recipe.optimizer != SGD else {"nesterov": recipe.nesterov, **options_of(recipe)}
    if recipe.optimizer in WITH_MOMENTUM:
        options["momentum"] = recipe.momentum
    elif on_cuda:
        options["capturable"] = True
    rate = torch.tensor(recipe.lr, device=parameters[0].device) if on_cuda else recipe.lr
    return known(groups, lr=rate, weight_decay=recipe.weight_decay, fused=True, **options)


def _groups(parameters: list[nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the groups of parameters that decay and that do not."""
    if recipe.decay == "all" or not recipe.weight_decay:
        return [{"params": parameters}]
    # Biases and the parameters of norms are vectors.
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [group for group in ({"params": weights}, {"params": others, "weight_decay": 0.0}) if group["params"]]


def _of_timm(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    from timm.optim import create_optimizer_v2

    return create_optimizer_v2(
        groups,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        **options_of(recipe),
    )


def options_of(recipe: Recipe) -> dict[str, Any]:
    """Returns the further arguments of a recipe's optimizer; lists become tuples, as optimizers take them."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in (recipe.optimizer_options or {}).items()
    }


def options_fault(recipe: Recipe) -> tuple[str | None, str] | None:
    """Returns the fault of a recipe's `optimizer_options`: the name of one of them, or None, and the rule."""
    if not recipe.optimizer_options:
        return None
    known = _arguments(recipe.optimizer)
    for name in recipe.optimizer_options:
        if name not in known:
            having = f"it has {', '.join(known)}" if known else "it has none"
            return name, f"is no option of optimizer {recipe.optimizer}; {having}"
    try:
        make_optimizer(nn.Linear(2, 2), recipe)
    except Exception as error:  # whatever an optimizer raises for a wrong argument
        return None, f"cannot be used with optimizer {recipe.optimizer}: {error}"
    return None


def _arguments(name: str) -> list[str]:
    """Returns the further arguments that an optimizer has."""
    made: Any = _CAPTURED.get(name)
    if made is None:
        from timm.optim import get_optimizer_class

        made = get_optimizer_class(name, bind_defaults=False)
    left_out = _NOT_OPTIONS | ({"nesterov"} if name == SGD else set())
    return [argument for argument in inspect.signature(made.__init__).parameters if argument not in left_out]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate and keeps the rest of the state."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def step(optimizer: torch.optim.Optimizer, clip: float) -> None:
    """Makes a step, with the gradient scaled down to a norm of `clip`, unless that is 0."""
    if clip:
        torch.nn.utils.clip_grad_norm_(all_parameters(optimizer), clip)
    optimizer.step()


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Begins the momentum of every parameter at once, because fused SGD cannot begin that of one after another's."""
    if isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["momentum"]:
        for parameter in all_parameters(optimizer):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def all_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Returns the parameters of an optimizer, in its order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def copied_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns a copy of the state of an optimizer that can be captured, as `put_state` takes it."""
    state = optimizer.state_dict()["state"]
    return {"state": {number: {name: value.clone() for name, value in own.items()} for number, own in state.items()}}


def put_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Loads the state of an optimizer that can be captured into the memory that it is in.

    Args:
        optimizer: The optimizer.
        state: Its `state_dict`, of which the learning rate is not taken; empty for one before its first step.
    """
    kept = state.get("state", {})
    for number, parameter in enumerate(all_parameters(optimizer)):
        own = optimizer.state[parameter]
        values: Mapping[str, Any] = kept.get(number, {})
        for name in _both(own, values):
            there, value = own.get(name), values.get(name)
            if isinstance(there, Tensor):
                # To the first step, a state of zeros is none.
                there.zero_() if value is None else there.copy_(value)
            elif value is not None:
                own[name] = _like(value, parameter)


def _both(own: Mapping[str, Any], kept: Mapping[str, Any]) -> Iterable[str]:
    return list(dict.fromkeys([*own, *kept]))


def _like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """Returns a copy of a value on the parameter's device, and in its memory layout if it has its shape."""
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter).copy_(value)
