"""NVIDIA GPUs by way of CuPy: whether there are any, what state they are in, and timing by CUDA events. Imports CuPy only when it is used."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FLUSH_BYTES = 2**28
"""What is written before each timed call, so that nothing of its operands is left in a cache: more than the L2 of any GPU there is."""
STATE_FIELDS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_throttle_reasons.active")
STATE_METHOD = "nvidia-smi: MHz, MHz, W, degrees Celsius, bit mask"


def why_none() -> str | None:
    """Why nothing can run on a GPU here, and what to do about it; None where something can."""
    try:
        import cupy
    except ImportError:
        return "not run: CuPy is not installed; pip install 'westward[gpu]' on a node with an NVIDIA GPU"
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"not run: no CUDA device ({error}); run it in a job that asked for a GPU, on a node whose nvidia-smi lists one"
    return None


def versions(device: int) -> dict[str, str]:
    """The GPU's name and compute capability, the driver, and the libraries of CUDA."""
    import cupy
    from cupy_backends.cuda.libs import cublas

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(device)
    return {
        "gpu": f"{properties['name'].decode()} sm_{properties['major']}{properties['minor']}",
        "nvidia_driver": next(iter(smi(device, ["driver_version"])), "unknown"),
        "cuda_driver_api": str(runtime.driverGetVersion()), "cuda_runtime": str(runtime.runtimeGetVersion()),
        "cublas": str(cublas.getVersion(cupy.cuda.device.get_cublas_handle())),
    }  # fmt: skip


def smi(device: int, fields: Sequence[str]) -> list[str]:
    """What nvidia-smi says of a device, found by its PCI address, as CUDA may number devices otherwise; nothing where it cannot be asked."""
    import cupy

    address = cupy.cuda.runtime.deviceGetPCIBusId(device)
    command = ["nvidia-smi", f"--id={address}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [value.strip() for value in ended.stdout.strip().split(",")]


def state(device: int) -> list[str]:
    """Clocks, power, temperature and reasons to run slower, each with its name."""
    return [f"{name}={value}" for name, value in zip(STATE_FIELDS, smi(device, STATE_FIELDS), strict=False)]


def time_by_events(
    calls: Mapping[str, Callable[[], object]], repeats: int, warmup: int, prepare: Callable[[], object]
) -> dict[str, tuple[float, ...]]:
    """Seconds of each call on the current device's null stream, in turn, every other round in reverse order.

    `prepare` comes before each call, untimed, then a write that flushes the L2; while that runs the call is being launched, so that
    launching is not in the time of any but the shortest.
    """
    import cupy

    flush = cupy.empty(FLUSH_BYTES, cupy.uint8)
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmup + repeats):
        for name in list(calls) if number % 2 == 0 else list(calls)[::-1]:
            prepare()
            flush.fill(number % 2)
            begin.record()
            calls[name]()
            end.record()
            end.synchronize()
            if number >= warmup:
                samples[name].append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return {name: tuple(values) for name, values in samples.items()}


def to_host(array: Any) -> Any:
    """A NumPy array of the same elements."""
    import cupy

    return cupy.asnumpy(array)
