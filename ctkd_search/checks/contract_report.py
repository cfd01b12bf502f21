"""The output of `check-method`: each point of the contract, and the first one that a method breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctkd_search.checks.contract import CONTRACT, contract_faults
from ctkd_search.distill.methods.base import method_class
from ctkd_search.errors import UserError
from ctkd_search.space.parameters import PAIR
from ctkd_search.space.reader import space_of
from ctkd_search.space.search_reader import pair_fault

if TYPE_CHECKING:
    from rich.console import Console

# A pair that every kind of method can teach, on images of CIFAR's size.
DEFAULT_PAIR = "wrn-16-1/resnet8"


def print_contract(method: str, pair: str, console: Console) -> None:
    """Prints each point of the contract of a method, with its faults.

    Args:
        method: Its name, or its reference.
        pair: Teacher and student that it is tried with.
        console: Where to write.

    Raises:
        UserError: There is no such method or pair, or the method breaks the contract.
    """
    known = method_class(method)
    if fault := PAIR.fault(pair) or pair_fault(pair, [known()], None):
        raise UserError(f"--pair {fault}")
    searched = {"pair": pair, "method": method, "lr": {"float": [0.05, 0.2]}}
    space = space_of({"name": "check-method", "dataset": {"name": "cifar10"}, "search": searched})
    assert space.geometry is not None  # that of CIFAR-10 is known without its images
    config = space.pair_configs(method)[0]

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    say(f"method {method}: {known.summary}")
    say(f"{pair}, untrained, with images of noise of {space.geometry.image_size} pixels:")
    found = 0
    for point, faults in contract_faults(config, space.geometry, CONTRACT):
        say(f"  {'no' if faults else 'ok':3} {point}")
        for fault in faults:
            say(f"      {fault}")
        found += len(faults)
    if found:
        raise UserError(f"{method} cannot be used before this is mended")
