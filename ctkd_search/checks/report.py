"""The second part of the output of `check`: networks, disk space and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ctkd_search import data
from ctkd_search.analysis.stopping import Span
from ctkd_search.checks.estimate import Load, estimate, measured_configs, total
from ctkd_search.checks.experts import expert_lines
from ctkd_search.checks.images import kept_apart, look_at_images, small_data
from ctkd_search.checks.imbalance import imbalance_lines
from ctkd_search.checks.measure import measure
from ctkd_search.checks.networks import Facts
from ctkd_search.checks.refusals import refuse
from ctkd_search.checks.storage import Room, recorded_bytes, room, smaller_maps
from ctkd_search.checks.stores import store_line
from ctkd_search.display.tables import plain_table
from ctkd_search.distill.engine import resolve_precision
from ctkd_search.errors import UserError
from ctkd_search.files import free_on_disk
from ctkd_search.geometry import Geometry
from ctkd_search.models import describe
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import TEACHERS
from ctkd_search.resources import (
    Share,
    local_node,
    most_at_once,
    share_out,
    teacher_threads,
    teachers_at_once,
    thread_limit,
)
from ctkd_search.space.definition import Space
from ctkd_search.space.document import Document
from ctkd_search.space.limits import within_limits
from ctkd_search.space.teacher_mode import with_mode
from ctkd_search.text import clock, size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Seconds for which single steps are measured, in all.
MEASURING = 10.0
_DAY = 86400.0


@dataclass(frozen=True)
class Costs:
    """The estimated costs of a search.

    Attributes:
        seconds: Its time at least and at most; None if it was not estimated.
        disk_bytes: The size of its recordings at most; None if the number of images is not known.
    """

    seconds: tuple[float, float] | None = None
    disk_bytes: int | None = None


def print_check(space: Space, document: Document, trials_dir: Path, timed: bool, console: Console) -> Costs:
    """Prints the networks of a space, the disk space that it needs, and an estimate of its time.

    Args:
        space: The space.
        document: The file that it was read from.
        trials_dir: Directory of all searches.
        timed: Whether to measure single steps on this machine, and to estimate the time from them.
        console: Where to write.

    Returns:
        The costs.

    Raises:
        UserError: Something cannot work; the message lists every fault with its line.
    """

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    geometry, counted = data.geometry(space.dataset), data.sizes(space.dataset)
    chosen = None
    if counted:
        space, chosen = with_mode(space, counted[0], geometry.classes)
    known = refuse(space, document, geometry, counted[0] if counted else None, trials_dir)
    say("")
    space = within_limits(space, {name: found.costs for name, found in known.items()}, say)
    share, lacking = _share(space)
    if lacking and not space.resources.address:  # the resources of a cluster are known once it is joined
        say(f"warning: this machine cannot run the space: {lacking}")
    absent = data.absent(space.dataset)
    if absent:
        say(f"not downloaded yet: {absent}")
    for line in look_at_images(space, document):
        say(line)
    console.print(_networks(space, known))
    for line in (*_network_notes(known, geometry), *_map_notes(space, known)):
        say(line)
    for line in expert_lines(space, geometry, timed):
        say(line)
    if counted is None:
        say(
            "the number of images is known only once they are loaded, so that neither disk space nor time can be "
            "estimated"
        )
        return Costs()
    apart = kept_apart(space, counted)
    test = f", {apart:,} kept apart for the test of the final training" if apart else ""
    say(f"images: about {counted[0]:,} for training, {counted[1]:,} held out for validation{test}")
    for line in (*imbalance_lines(space), *small_data(space, counted[0])):
        say(line)
    if chosen:
        say(chosen)
    needed = room(space, counted[0], geometry.classes, known)
    advice = smaller_maps(space, counted[0], geometry.classes, known)
    for line in _room_lines(space, needed, counted[0], trials_dir, advice):
        say(line)
    if stored := store_line(space, counted[1], trials_dir / TEACHERS):
        say(stored)
    recorded = needed.trajectories + needed.confirmed[1] + min(needed.maps, space.teachers.cache_bytes())
    if not timed:
        return Costs(disk_bytes=recorded)
    if share is None:
        reason = f": {lacking}" if space.resources.address else ""
        say(f"no time is estimated, because this machine cannot run the space{reason}")
        return Costs(disk_bytes=recorded)
    for line in _slow_precisions(space, torch.device(share.device)):
        say(line)
    say(f"measuring a few steps on this machine, for at most about {MEASURING:.0f} s (--no-measure leaves it out) ...")
    threads = (teacher_threads(share, len(space.trained_teachers())), share.cpus)
    speeds = measure(measured_configs(space), known, geometry, torch.device(share.device), threads, MEASURING)
    beyond = max(0.0, 1.0 - space.teachers.cache_bytes() / needed.maps) if needed.maps else 0.0
    parts = estimate(space, speeds, Load(*counted, share.concurrent, teachers_at_once(share), beyond))
    say(f"time, estimated: {share}")
    console.print(_time_table(space, parts))
    for line in _time_notes(space, parts, speeds.estimated):
        say(line)
    whole = total(parts.values(), space.budget.seconds())
    return Costs((whole.low, whole.high), recorded)


def _share(space: Space) -> tuple[Share | None, str]:
    """Returns a trial's share of this machine; or None, and what the machine lacks."""
    try:
        return share_out(space.resources, [local_node()], most_at_once(space), thread_limit()), ""
    except UserError as error:
        return None, str(error)


def _slow_precisions(space: Space, device: torch.device) -> list[str]:
    """Returns warnings of precisions that a device computes in by software.

    Args:
        space: The space.
        device: The device that trials compute on.
    """
    asked = {"train.precision": space.train, "teachers.recipe.precision": space.teachers.recipe}
    return [
        f"warning: {key}: bfloat16 is not in this machine's hardware, and takes several times as long as float32; "
        "leave the key out for the faster of the two"
        for key, recipe in asked.items()
        if recipe.precision == "bfloat16" != resolve_precision("auto", device)
    ]


def _networks(space: Space, known: Mapping[str, Facts]) -> Table:
    right = ("parameters", "multiply-adds")
    table = plain_table("network", "is", *right, "tapped maps (channels x height x width)", right=right)
    pairs = [split_pair(pair) for pair in space.pairs()]
    teachers, students = [pair.teacher for pair in pairs], [pair.student for pair in pairs]
    members = sorted(space.ensemble_architectures() - {*teachers})
    for role, names in (("teacher", teachers), ("in the ensemble", members), ("student", students)):
        for name in dict.fromkeys(names):
            facts = known[name]
            table.add_row(name, role, f"{facts.parameters:,}", f"{facts.multiply_adds:,}", facts.shapes())
    return table


def _network_notes(known: Mapping[str, Facts], geometry: Geometry) -> list[str]:
    """Returns notes about networks made elsewhere: their stem, and the modules whose outputs are tapped."""
    notes_of = {name: describe(name, geometry).notes for name in known}
    return [f"{name}: {'; '.join(notes)}" for name, notes in notes_of.items() if notes]


def _map_notes(space: Space, known: Mapping[str, Facts]) -> list[str]:
    """Returns lines about pairs whose maps have different sizes."""
    lines = []
    for pair in space.pairs():
        teacher, student = (known[name].maps for name in split_pair(pair))
        both = [(theirs[1:], ours[1:]) for theirs, ours in zip(teacher, student, strict=False)]
        if space.needs(pair).attention and any(theirs != ours for theirs, ours in both):
            sizes = ", ".join("x".join(map(str, min(sides))) for sides in both)
            lines.append(f"{pair}: maps of different sizes are compared at the smaller one's: {sizes}")
    return lines


def _room_lines(space: Space, needed: Room, images: int, trials_dir: Path, advice: str | None) -> list[str]:
    if space.teachers.mode == "live":
        return ["recorded: nothing, because teachers are live"]
    lines = []
    if needed.trajectory:
        teachers = len(space.trained_teachers())
        confirmed = f", up to {size(needed.confirmed[1])} more for the confirmation" if needed.confirmed[1] else ""
        lines.append(
            f"trajectory: {space.budget.epochs} epochs of {images:,} images, {size(needed.trajectory)} for each of "
            f"{teachers} teacher{'s' * (teachers > 1)}{confirmed}"
        )
    if needed.maps:
        limit = space.teachers.cache_bytes()
        beyond = "" if needed.maps <= limit else "; beyond the limit they are computed in the trials"
        beyond += f"; {advice}" if beyond and advice else ""
        lines.append(
            f"the experts' outputs: up to {size(needed.maps_epoch)} an epoch and {size(needed.maps)} in all; "
            f"teachers.cache_limit is {space.teachers.cache_limit}{beyond}"
        )
    kept = recorded_bytes(trials_dir)
    there = f", beside {size(kept)} of recordings, of which this search may need some" if kept else ""
    return [*lines, f"free disk space for them in {trials_dir}: {size(free_on_disk(trials_dir))}{there}"]


def _time_table(space: Space, parts: Mapping[str, Span]) -> Table:
    table = plain_table("", "time", right=("time",))
    for name, span in parts.items():
        table.add_row(name, _span(span))
    table.add_row("in all", _span(total(parts.values(), space.budget.seconds())), style="bold")
    return table


def _span(span: Span) -> str:
    low, high = _long(span.low), _long(span.high)
    return low if low == high else f"{low} to {high}"


def _long(seconds: float) -> str:
    """Returns a duration, in days where it is long."""
    days, rest = divmod(seconds, _DAY)
    return clock(seconds) if days < 2 else f"{days:.0f} days {rest / 3600:.0f} h"


def _time_notes(space: Space, parts: Mapping[str, Span], estimated: list[str]) -> list[str]:
    lines = []
    if parts["trials"].low != parts["trials"].high:
        lines.append("the time within the range depends on how many trials are stopped early")
    limit = space.budget.seconds()
    if limit is not None and sum(span.low for span in parts.values()) > limit:
        lines.append(f"budget.time_budget ends it after {clock(limit)}, before all trials are done")
    if space.resources.address:
        lines.append("estimated for this machine alone; the other machines of the cluster are not counted")
    if space.resources.trials_per_gpu == "auto":
        lines.append("estimated with one trial on a GPU at a time; the search measures how many fit when it begins")
    if estimated:
        lines.append(f"estimated from other networks by multiply-adds, for lack of time: {', '.join(estimated)}")
    lines.append("not part of the estimate: reading images from the disk, and the use of earlier searches' recordings")
    return lines
