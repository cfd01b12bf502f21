"""The two ways a command ends badly without a traceback, and how errors of the machine are known."""

# Messages of a RuntimeError of torch's that come from the machine: a device, memory, processes, files.
MACHINE_SIGNS = (
    *("out of memory", "can't allocate memory", "Cannot allocate memory", "alloc_cpu", "CUDA error", "CUDA driver"),
    *("cuDNN error", "CUBLAS_STATUS", "CUFFT_STATUS", "NCCL", "No CUDA GPUs are available", "shared memory"),
    *("DataLoader worker", "can't start new thread", "Too many open files", "file_reader", "inline_container"),
    *("PytorchStream", "Connection", "Broken pipe", "timed out", "decoding processes"),
)


class UserError(Exception):
    """An error that the user can correct, with one line on how. The command exits with 2."""


class WorkFailed(Exception):
    """A failure of the work itself, not of the user's input. The command exits with 1."""
