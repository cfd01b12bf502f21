"""The script of a search for Slurm, as ``sbatch`` takes it."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from ctkd_search import __version__
from ctkd_search.errors import UserError
from ctkd_search.resources import Node, share_out
from ctkd_search.space.definition import Space
from ctkd_search.text import amount
from ctkd_search.units import duration

# Seconds of the grace that are left to Slurm: to requeue the job and to end its processes.
_RESERVE = 30
_SHORTEST_GRACE = 60
# More cores than any machine has.
_MANY = 1 << 20
# The options of sbatch that the script sets itself, with their short names.
_OWN = {
    "--job-name": "-J",
    "--output": "-o",
    "--nodes": "-N",
    "--time": "-t",
    "--cpus-per-task": "-c",
    "--mem": None,
    "--open-mode": None,
    "--ntasks-per-node": None,
    "--gpus-per-node": None,
    "--signal": None,
    "--requeue": None,
    "--no-requeue": None,
}
_MEMORY = re.compile(r"\d+[KMGT]?")


@dataclass(frozen=True)
class Job:
    """The resources of a job, and what its script does besides the search.

    Attributes:
        nodes: Number of machines.
        gpus: GPUs of each machine.
        cpus: CPU cores of each machine; None for Slurm's default, or all of them where there are several machines.
        memory: Memory of each machine as Slurm takes it, as in ``64G``; None for Slurm's default.
        time: Time limit, as in ``8h``.
        grace: Time before the limit at which the search is interrupted, as in ``5m``.
        requeues: Times that the job is requeued at its time limit.
        options: Other options of sbatch, as in ``--partition=gpu``.
        setup: Lines of shell that run before the search, as in ``module load cuda``.
    """

    nodes: int
    gpus: int
    time: str
    cpus: int | None = None
    memory: str | None = None
    grace: str = "5m"
    requeues: int = 20
    options: Sequence[str] = ()
    setup: Sequence[str] = ()

    def check(self) -> None:
        """Checks the options that are not numbers.

        Raises:
            UserError: One of them is not valid, or contradicts another.
        """
        limit, grace = _seconds("--time", self.time), _seconds("--grace", self.grace)
        if grace < _SHORTEST_GRACE:
            raise UserError(f"--grace must be at least {_SHORTEST_GRACE}s, but got {self.grace!r}")
        if grace >= limit:
            raise UserError(f"--grace {self.grace} must be shorter than --time {self.time}")
        if self.memory is not None and not _MEMORY.fullmatch(self.memory):
            raise UserError(f"--memory-per-node must be a size of Slurm, as in 64G, but got {self.memory!r}")
        for option in self.options:
            _check_option(option)
        for line in self.setup:
            if not line.strip() or "\n" in line:
                raise UserError(f"--setup must be one line of shell, as in 'module load cuda', but got {line!r}")


def notes(job: Job, space: Space) -> list[str]:
    """Returns lines about the search on the machines: the trials at once, and GPUs that are not used.

    Raises:
        UserError: The machines do not have what the space asks for, or the space joins another cluster.
    """
    if space.resources.address is not None:
        raise UserError("resources.address is set, but the job starts Ray itself; leave it out")
    if not job.cpus and not job.gpus:
        return ["trials at once: one for each core; say how many cores a machine has with --cpus-per-node"]
    # Without a number of cores, the GPUs alone decide.
    nodes = [Node(job.gpus, job.cpus or _MANY)] * job.nodes
    share = share_out(space.resources, nodes, space.budget.trials)
    lines = [f"{amount(share.concurrent, 'trial')} at once, of {amount(space.budget.trials, 'trial')} in all"]
    used, found = math.ceil(share.gpus * share.concurrent), job.gpus * job.nodes
    if used < found:
        lines.append(f"the trials use {used} of {amount(found, 'GPU')} at once")
    return lines


def slurm_script(job: Job, name: str, words: Sequence[str], trials_dir: Path, directory: Path) -> str:
    """Returns the script of a search.

    On one machine the search starts Ray itself. On several the script starts it with ``ray symmetric-run``, and the
    search runs on the first. Shortly before the time limit the search is interrupted and the job requeued.

    Args:
        job: The job.
        name: Name of the search.
        words: The command that runs the search, without ``--resume`` and ``--address``.
        trials_dir: Directory of all searches.
        directory: The directory that the paths of the command are relative to.

    Raises:
        UserError: An option of the job is not valid.
    """
    job.check()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctkd_search.batch"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    grace = math.ceil(_seconds("--grace", job.grace))
    return environment.get_template("slurm.sh").render(
        name=name,
        version=__version__,
        machines=_machines(job),
        nodes=job.nodes,
        gpus=job.gpus,
        cpus=job.cpus,
        memory=job.memory,
        time=slurm_time(_seconds("--time", job.time)),
        grace=grace,
        patience=grace - _RESERVE,
        requeues=job.requeues,
        options=job.options,
        setup=job.setup,
        directory=directory,
        path=Path(sys.executable).parent,
        trials=trials_dir,
        search=shlex.join(words),
    )


def slurm_time(seconds: float) -> str:
    """Returns a time limit as Slurm takes it, days-hours:minutes:seconds."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02d}:{minutes:02d}:{rest:02d}"


def _machines(job: Job) -> str:
    parts = [amount(job.gpus, "GPU")] * bool(job.gpus) + [amount(job.cpus or 0, "core")] * bool(job.cpus)
    each = f" with {' and '.join(parts)}" if parts else ""
    return f"{amount(job.nodes, 'machine')}{each}"


def _seconds(option: str, text: str) -> float:
    try:
        return duration(text)
    except ValueError as error:
        raise UserError(f"{option} {error}") from None


def _check_option(option: str) -> None:
    """Raises UserError if an option of sbatch is none, or one that the script sets itself."""
    name = re.split(r"[= ]", option, maxsplit=1)[0]
    if not re.fullmatch(r"-[A-Za-z]|--[a-z][a-z-]*", name) or "\n" in option:
        raise UserError(f"--sbatch must be an option of sbatch, as in --sbatch=--partition=gpu, but got {option!r}")
    own = next((long for long, short in _OWN.items() if name in (long, short)), None)
    if own:
        raise UserError(f"--sbatch {option} sets {own}, which the script sets itself; use the options of this command")
