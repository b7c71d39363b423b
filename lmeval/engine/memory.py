"""Memory that runs out, and devices that fail: how they are told from other errors, and what is done about them.

Out of memory, a part of the work is tried again with a smaller budget, and nothing of what is done is lost. A device
that failed (an illegal access, an assertion of a kernel) answers nothing more in this process: the run stops, and what
it has done is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lmeval import stopping
from lmeval.errors import DeviceError, LmevalError, MemoryShortError

T = TypeVar("T")

# As torch, oneDNN, cuBLAS, cuDNN, MPS and the C++ library say it; most of them raise a plain RuntimeError
NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|cannot allocate memory|bad_alloc|"
    r"CU(BLAS|DNN|SOLVER|SPARSE)_STATUS_ALLOC_FAILED|could not create a (memory object|primitive)|Unable to allocate",
    re.I,
)
FAILED = re.compile(
    r"CUDA error|HIP error|CUDA driver error|device-side assert|illegal memory access|CUBLAS_STATUS_|CUDNN_STATUS_|"
    r"CUDNN_BACKEND|NCCL|unspecified launch failure|MPS backend|ECC error|device lost|device is lost",
    re.I,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the device or of the host."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None


def is_device_failure(error: BaseException) -> bool:
    """Whether an error says that the device failed."""
    import torch

    if is_out_of_memory(error):
        return False
    accelerators = getattr(torch, "AcceleratorError", ())  # torch 2.8 and later
    return isinstance(error, accelerators) or (
        isinstance(error, RuntimeError) and FAILED.search(str(error)) is not None
    )


def reraise_fault(error: BaseException) -> None:
    """Raise an error again that says nothing about a model: memory ran out, or the device failed."""
    if is_out_of_memory(error) or is_device_failure(error):
        raise error


def attempt(work: Callable[[], T], smaller: Callable[[], bool]) -> T | None:
    """What `work` gives; None where memory ran out, and then all that it held is let go.

    Where the run was asked to stop, `work` is not begun: see `stopping`.

    Args:
        work: A part of a run, which gives what is not None.
        smaller: Lowers the budget for the next attempt; False where there is nothing to lower.
    """
    stopping.check()
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error) or not smaller():
            raise
    # behind the except block: within it the traceback keeps what `work` held alive
    release_memory()
    return None


def release_memory() -> None:
    """Give cached blocks back to the device after it ran out of memory."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def loading_needs_memory(name: str) -> LmevalError:
    """The error of weights that do not fit into memory."""
    return MemoryShortError(
        f"the weights of {name} do not fit into the memory that is there",
        fix="try --dtype bfloat16, --device-map auto (all devices, then the host and the disk), a smaller model, or a "
        "machine with more memory",
    )


def _device_failed(device: str, error: BaseException) -> LmevalError:
    return DeviceError(
        f"{device} failed: {_first_line(error)}",
        fix="what was finished is kept: run the same command again to go on. If it fails there again, "
        "CUDA_LAUNCH_BLOCKING=1 or --device cpu shows what is wrong",
    )


@contextmanager
def loading_told_apart(name: str) -> Iterator[None]:
    """As `told_apart`, while a model is loaded and proved.

    Raises:
        MemoryShortError: It does not fit.
        DeviceError: The device failed.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise loading_needs_memory(name) from error
        if is_device_failure(error):
            raise _device_failed("the device", error) from error
        raise


@contextmanager
def told_apart(device: str, batch_tokens: Callable[[], int]) -> Iterator[None]:
    """In the block, memory that ran out for good and a failing device are errors that say how to go on.

    Raises:
        MemoryShortError: Not even the smallest budget fits.
        DeviceError: The device failed.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryShortError(
                f"the memory of {device} does not hold the smallest step of this model ({batch_tokens()} tokens): "
                f"{_first_line(error)}",
                fix="what was finished is kept: run the same command again where more memory is free, or begin anew "
                "with --dtype bfloat16, --device-map auto or a smaller --max-length",
            ) from error
        if is_device_failure(error):
            raise _device_failed(device, error) from error
        raise


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
