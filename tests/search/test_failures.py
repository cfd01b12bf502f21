"""The failures of trials, read from Ray's error files."""

from __future__ import annotations

import errno
import os
import traceback
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from ctkd_search.errors import UserError
from ctkd_search.search.failures import Failure, cause_of, failure_of, is_full_disk, read_failure

# As Ray writes them, with what it adds to a traceback.
STEP = """\
Failure # 1 (occurred at 2026-11-21_04-07-01)
\x1b[36mray::DistillationTrial.train()\x1b[39m (pid=17421, ip=127.0.0.1, actor_id=6b13, repr=<trainable>)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/site-packages/ray/tune/trainable/trainable.py", line 329, in train
    raise skipped from exception_cause(skipped)
  File "/site-packages/ray/tune/trainable/trainable.py", line 326, in train
    result = self.step()
             ^^^^^^^^^^^
  File "/site-packages/ctkd_search/search/trainable.py", line 87, in step
    metrics = self._trainer.run_epoch()
              ^^^^^^^^^^^^^^^^^^^^^^^^^
%s
"""
SETUP = """\
Failure # 1 (occurred at 2026-11-21_04-06-58)
The actor died because of an error raised in its creation task, \x1b[36mray::Trial.__init__()\x1b[39m (pid=17)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/site-packages/ray/tune/trainable/trainable.py", line 151, in __init__
    self.setup(copy.deepcopy(self.config))
  File "/site-packages/ctkd_search/search/trainable.py", line 63, in setup
    self._begin(config[NUMBER], config[CONFIG])
%s
"""
CHAINED = """\
Failure # 1 (occurred at 2026-11-21_04-07-01)
\x1b[36mray::DistillationTrial.train()\x1b[39m (pid=17421, ip=127.0.0.1)
  File "/site-packages/torch/serialization.py", line 1, in load
    raise KeyError("never: mind")
KeyError: 'never: mind'

The above exception was the direct cause of the following exception:

\x1b[36mray::DistillationTrial.train()\x1b[39m (pid=17421, ip=127.0.0.1)
  File "/site-packages/ctkd_search/search/trainable.py", line 87, in step
    metrics = self._trainer.run_epoch()
%s
"""
DIED = """\
Failure # 1 (occurred at 2026-11-21_04-07-03)
The actor died unexpectedly before finishing this task.
\tclass_name: DistillationTrial
\tactor_id: 0aec4f66e63c90844bb5913d01000000
\tpid: 17452
\tip: 127.0.0.1
The actor is dead because its worker process has died. Worker exit type: %s
"""
KILLED = "SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. Some "
KILLED += "common causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop."
SHORT = "NODE_OUT_OF_MEMORY Worker exit detail: Task was killed due to the node running low on memory."
CUDA = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB"
)
ASYNCHRONOUS = """\
torch.AcceleratorError: CUDA error: out of memory
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."""
STATE_DICT = """\
RuntimeError: Error(s) in loading state_dict for TappedNetwork:
\tMissing key(s) in state_dict: "stem.weight".
\tsize mismatch for classifier.weight: copying a param with shape torch.Size([10, 64])"""
SEVERAL = """\
ctkd_search.errors.UserError: the space is not the one that the search began with:
  budget.epochs: 12 before, 30 now
Hint: choose another name"""

RAISED = {"may_pass": False}
MACHINE = {"of_the_machine": True}
READ = [
    ("RuntimeError: out of luck", Failure("RuntimeError: out of luck", **RAISED)),
    ("KeyboardInterrupt", Failure("KeyboardInterrupt", **MACHINE)),
    ("ctkd_search.errors.UserError: cannot read w.pt", Failure("cannot read w.pt", **RAISED)),
    (SEVERAL, Failure("the space is not the one that the search began with:", **RAISED)),
    (STATE_DICT, Failure(STATE_DICT.splitlines()[0], **RAISED)),
    ("ValueError: first\nSecond: line\nlast line", Failure("ValueError: first", **RAISED)),
    (
        "OSError: [Errno 28] No space left on device: '/x'",
        Failure("OSError: [Errno 28] No space left on device: '/x'", **MACHINE),
    ),
    ("OSError: [Errno 122] Disk quota exceeded", Failure("OSError: [Errno 122] Disk quota exceeded", **MACHINE)),
    (
        "ctkd_search.errors.UserError: cannot write /x: No space left on device",
        Failure("cannot write /x: No space left on device", **RAISED),
    ),
    (CUDA, Failure(CUDA, out_of_memory=True, **MACHINE)),
    (ASYNCHRONOUS, Failure("torch.AcceleratorError: CUDA error: out of memory", out_of_memory=True, **MACHINE)),
    (
        "RuntimeError: CUDA error: out of memory",
        Failure("RuntimeError: CUDA error: out of memory", out_of_memory=True, **MACHINE),
    ),
    ("MemoryError: Unable to allocate 3. GiB", Failure("MemoryError: Unable to allocate 3. GiB", **MACHINE)),
    (f"ValueError: {'x' * 500}", Failure(f"ValueError: {'x' * 288}…", **RAISED)),
]
# What an exception says, whether it may go well another time, and whether the same again says nothing.
KINDS = [
    ("ValueError: Expected more than 1 value per channel when training, got input size [1, 8, 1, 1]", False, False),
    ("RuntimeError: The size of tensor a (4) must match the size of tensor b (8) at dimension 1", False, False),
    ("RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)", False, False),
    ("TypeError: forward() takes 2 positional arguments but 3 were given", False, False),
    ("ValueError: out of memory is a class of mine", False, False),
    ("KeyError: 'CUDA error'", False, False),
    ("AssertionError", False, False),
    ("NotImplementedError: upsample", False, False),
    ("ctkd_search.errors.UserError: cannot read x.pt: Connection reset", False, False),
    ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed. ", True, True),
    ("RuntimeError: CUDA error: an illegal memory access was encountered", True, True),
    ("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", True, True),
    ("RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True, True),
    ("RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory", True, True),
    ("RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate", True, True),
    ("RuntimeError: can't start new thread", True, True),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/x'", True, True),
    ("OSError: [Errno 5] Input/output error", True, True),
    ("ray.exceptions.GetTimeoutError: Get timed out", True, True),
    ("some.package.Mishap: a plugin's own", True, False),
    ("ctkd_search.errors.WorkFailed: the teacher diverged", True, False),
]


@pytest.mark.parametrize(("message", "may_pass", "of_the_machine"), KINDS, ids=[text[:40] for text, *_ in KINDS])
def test_what_the_training_raises_comes_again_and_what_the_machine_does_may_pass(message, may_pass, of_the_machine):
    found = read_failure(STEP % message)
    assert (found.may_pass, found.of_the_machine) == (may_pass, of_the_machine)


@pytest.mark.parametrize("frame", [STEP, SETUP, CHAINED], ids=["in a step", "in the first trial", "with a cause"])
@pytest.mark.parametrize(("text", "failure"), READ, ids=[text[:30] for text, _ in READ])
def test_the_exception_of_a_traceback_is_the_reason(frame, text, failure):
    full = any(words in text for words in ("No space left", "quota"))
    expected = replace(failure, full_disk=full)
    assert read_failure(frame % text) == expected
    # Of several failures in a file, the last one.
    assert read_failure(STEP % "ZeroDivisionError: an earlier one" + frame % text) == expected


@pytest.mark.parametrize(
    ("detail", "hint"), [(KILLED, ""), (SHORT, " (the machine was short of memory)")], ids=["killed", "short of memory"]
)
def test_a_worker_process_that_died_is_told_from_an_exception(detail, hint):
    assert read_failure(DIED % detail) == Failure(f"its worker process died{hint}", **MACHINE)
    assert read_failure(STEP % "ZeroDivisionError: an earlier one" + DIED % detail).reason == (
        f"its worker process died{hint}"
    )


@pytest.mark.parametrize(
    "text", ["", "Failure # 1 (occurred at 2026-11-21)\n", "Failure # 1 (occurred at noon)\n\n \n"]
)
def test_a_file_that_says_nothing_says_that_the_process_died(text):
    assert read_failure(text) == Failure("its worker process died", **MACHINE)


def raised(error):
    """Returns the error that Ray raises for an exception in a task."""
    try:
        raise error
    except Exception as found:
        return RayTaskError("train", traceback.format_exc(), found)


@pytest.mark.parametrize("wrap", [lambda error: error, ActorDiedError], ids=["in a step", "in the first trial"])
def test_rays_own_exceptions_are_understood(wrap):
    def read(error):
        return read_failure(f"Failure # 1 (occurred at noon)\n{wrap(raised(error))}\n")

    assert read(UserError("no: no")) == Failure("no: no", may_pass=False)
    assert read(ZeroDivisionError("division by zero")) == Failure("ZeroDivisionError: division by zero", **RAISED)
    assert read(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x")).full_disk
    assert read_failure(f"Failure # 1 (occurred at noon)\n{ActorDiedError()}\n").reason == "its worker process died"


def test_the_file_of_a_trial_is_read_and_one_that_cannot_be_is_no_failure_of_ours(tmp_path):
    path = tmp_path / "error.txt"
    assert failure_of(SimpleNamespace(error_file=str(path))) == Failure("no reason is known", **MACHINE)
    assert failure_of(SimpleNamespace(error_file=None)) == Failure("no reason is known", **MACHINE)
    path.write_bytes((STEP % "ValueError: \udcff").encode("utf-8", "surrogateescape"))
    assert failure_of(SimpleNamespace(error_file=str(path))).reason == "ValueError: �"


def chained(error, cause):
    """An exception with a cause."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (UserError("cannot write x: No space left on device"), True),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), True),
        (chained(ValueError("x"), OSError(errno.ENOSPC, "")), True),
        (chained(ValueError("x"), chained(KeyError("y"), OSError(errno.ENOSPC, ""))), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (chained(ValueError("x"), KeyError("y")), False),
    ],
    ids=repr,
)
def test_a_full_disk_is_seen_in_an_error_or_behind_it(error, full):
    assert is_full_disk(error) is full


def test_a_full_disk_is_seen_behind_an_error_that_came_of_handling_it():
    error = ValueError("x")
    error.__context__ = OSError(errno.ENOSPC, "")
    assert is_full_disk(error)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("one\ntwo \n"), "two"),
        (ValueError(), "ValueError"),
        (SimpleNamespace(cause=TypeError("no shape")), "no shape"),
        (SimpleNamespace(cause=KeyError()), "KeyError"),
    ],
)
def test_cause_of_a_task_s_error_is_one_line_without_quotes(error, said):
    assert cause_of(error) == said
