"""The clock of the multiprocessors while kernels run, from NVML."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

NVML_CLOCK_SM = 1


@dataclass
class SmClock:
    read: Callable[[], int]  # MHz; 0 where NVML does not say
    max_mhz: int


def open_sm_clock(device_uuid: str) -> SmClock | None:
    """None where NVML or the device is not to be had."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        device, mhz = ctypes.c_void_p(), ctypes.c_uint()
        if nvml.nvmlInit_v2() != 0:
            return None
        uuid = device_uuid.encode()
        if nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(device)) != 0:
            return None
        if nvml.nvmlDeviceGetMaxClockInfo(device, NVML_CLOCK_SM, ctypes.byref(mhz)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    max_mhz = mhz.value

    def read() -> int:
        status = nvml.nvmlDeviceGetClockInfo(device, NVML_CLOCK_SM, ctypes.byref(mhz))
        return mhz.value if status == 0 else 0

    return SmClock(read, max_mhz)
