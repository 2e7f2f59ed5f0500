"""The clock of the multiprocessors while kernels run, from NVML."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

NVML_CLOCK_SM = 1


def sm_clock_reader(device_uuid: str) -> Callable[[], int] | None:
    """A function that gives MHz, or None where NVML or the device is not to be had."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        device, mhz = ctypes.c_void_p(), ctypes.c_uint()
        if nvml.nvmlInit_v2() != 0:
            return None
        uuid = device_uuid.encode()
        if nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(device)) != 0:
            return None
    except (OSError, AttributeError):
        return None

    def read() -> int:
        status = nvml.nvmlDeviceGetClockInfo(device, NVML_CLOCK_SM, ctypes.byref(mhz))
        return mhz.value if status == 0 else 0

    return read
