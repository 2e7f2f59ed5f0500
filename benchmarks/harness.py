"""Times Quire and its peers on the same tensors, side by side, on one GPU.

Rounds are interleaved: every round times each implementation once, starting with another one, so
that clocks and temperature drift under all of them alike. Before each timed run the L2 cache is
overwritten. A round begins with a pause of the GPU, in which the host gets ahead of it, so that
CUDA events see no launch overhead of the host. A time is reported only for an implementation whose
output was right, and kept only where the GPU ran at the clocks it is known for.
"""

from __future__ import annotations

import json
import math
import pathlib
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from gpu_summary import commit, device_file_stem, gpu_name_and_driver  # noqa: E402
from sm_clock import SmClock, open_sm_clock  # noqa: E402

ROUNDS = 100
WARM_UP_ROUNDS = 5
FLUSH_BYTES = 256 << 20
LEAD_CYCLES = 500_000  # of the GPU's clock, at the beginning of a round
WATCH_EVERY = 8  # rounds
# Of the highest clock: at the limit of power an H100 runs at 0.70, one that was too hot at 0.26.
LOWEST_CLOCK = 0.6
COPY = "copy of as many bytes"  # how near its limit a copy of this size comes
GRAPH_SPAN_US = 2000  # a captured graph holds about this much work


@dataclass
class Implementation:
    """`run(i)` works on the i-th set of inputs; only 0 is used outside graphs."""

    name: str  # "quire" or "quire …" for this library, COPY for what limits it, else a peer
    run: Callable[[int], Any]
    error: Callable[[], float]  # of run(0)'s output, against a reference in double
    bytes: float = 0  # where it moves others than the case says

    @property
    def is_own(self) -> bool:
        return self.name.split()[0] == "quire"

    @property
    def is_peer(self) -> bool:
        return not self.is_own and self.name != COPY


@dataclass
class Case:
    family: str
    op: str
    shape: dict[str, Any]
    implementations: list[Implementation]
    error_limit: float
    flops: float = 0
    bytes: float = 0
    num_inputs: int = 1  # sets of inputs, for graph replays over memory that is not in L2
    graph: bool = False  # time graph replays instead of single launches
    rate: str = ""  # "tflops" or "tbps"; else that of what limits the case


@dataclass
class Limits:
    """What this GPU can do, measured in the same process."""

    copy_tbps: float  # read + written
    matmul_tflops: float  # bf16


@dataclass
class Session:
    device: str
    driver: str
    commit: str
    limits: Limits
    num_sms: int
    sm_clock: SmClock | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    num_wrong: int = 0
    num_throttled: int = 0  # cases


def open_session() -> Session:
    name, driver = gpu_name_and_driver()
    limits = measure_limits()
    print(f"{name}, driver {driver}: copy {limits.copy_tbps:.2f} TB/s, ", end="")
    print(f"bf16 product {limits.matmul_tflops:.0f} TFLOP/s", flush=True)
    gpu = torch.cuda.get_device_properties(0)
    clock = open_sm_clock(f"GPU-{gpu.uuid}")
    return Session(name, driver, commit(ROOT), limits, gpu.multi_processor_count, clock)


class Flush:
    """Overwrites more memory than L2 holds, with what is not zero."""

    def __init__(self) -> None:
        self.memory = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")

    def __call__(self) -> None:
        self.memory.fill_(0x5A)


def timed_us(run: Callable[[], Any], flush: Flush) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flush()
    start.record()
    run()
    end.record()
    return start, end


def interleaved_us(
    runs: Sequence[Callable[[], Any]],
    rounds: int = ROUNDS,
    while_running: Callable[[], Any] = lambda: None,
) -> list[list[float]]:
    """[implementation][round]; `while_running` is called now and then while the GPU works."""
    flush = Flush()
    times: list[list[float]] = [[] for _ in runs]
    for round_index in range(WARM_UP_ROUNDS + rounds):
        order = [(round_index + i) % len(runs) for i in range(len(runs))]
        torch.cuda._sleep(LEAD_CYCLES)
        events = {n: timed_us(runs[n], flush) for n in order}
        if round_index % WATCH_EVERY == WARM_UP_ROUNDS:
            while_running()
        torch.cuda.synchronize()
        if round_index >= WARM_UP_ROUNDS:
            for n, (start, end) in events.items():
                times[n].append(start.elapsed_time(end) * 1e3)
    return times


def capture(run: Callable[[int], Any], num_inputs: int) -> tuple[torch.cuda.CUDAGraph, int]:
    """A graph of launches that go through the inputs in turn, and how many there are."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for i in range(num_inputs):
            run(i)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run(0)
    end.record()
    torch.cuda.synchronize()
    estimate_us = max(start.elapsed_time(end) * 1e3, 2.0)
    turns = max(1, math.ceil(GRAPH_SPAN_US / estimate_us / num_inputs))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(turns):
            for i in range(num_inputs):
                run(i)
    return graph, turns * num_inputs


def measure(case: Case, while_running: Callable[[], Any]) -> list[list[float]]:
    if not case.graph:
        runs = [lambda i=i: i.run(0) for i in case.implementations]
        return interleaved_us(runs, while_running=while_running)
    graphs = [capture(i.run, case.num_inputs) for i in case.implementations]
    times = interleaved_us([graph.replay for graph, _ in graphs], while_running=while_running)
    return [[us / launches for us in samples] for samples, (_, launches) in zip(times, graphs)]


def measure_limits() -> Limits:
    source = torch.randint(0, 255, (1 << 30,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    runs = [lambda: target.copy_(source), lambda: torch.matmul(a, b)]
    copy_us, matmul_us = (statistics.median(t) for t in interleaved_us(runs))
    return Limits(2 * source.numel() / copy_us / 1e6, 2 * 8192**3 / matmul_us / 1e6)


def limit_us(case: Case, num_bytes: float, limits: Limits) -> float:
    by_bytes = num_bytes / limits.copy_tbps / 1e6
    return max(by_bytes, case.flops / limits.matmul_tflops / 1e6)


def metric(case: Case, num_bytes: float, us: float, limits: Limits) -> dict[str, float]:
    """Matrix work or memory traffic a second."""
    by_flops = case.flops / limits.matmul_tflops > num_bytes / limits.copy_tbps
    if case.rate == "tflops" or (by_flops and not case.rate):
        return {"tflops": round(case.flops / us / 1e6, 1)}
    return {"tbps": round(num_bytes / us / 1e6, 3)}


def copy_of(num_bytes: float) -> Implementation:
    """Reads and writes num_bytes in all."""
    source = torch.randint(0, 255, (int(num_bytes) // 2,), dtype=torch.uint8, device="cuda")
    target = torch.zeros_like(source)
    return Implementation(
        COPY, lambda _: target.copy_(source), lambda: float(not torch.equal(source, target))
    )


def correct_implementations(case: Case, session: Session) -> dict[str, float]:
    """Errors by name; an implementation that is wrong, or does not run, is left out and said."""
    errors: dict[str, float] = {}
    kept = []
    for implementation in case.implementations:
        try:
            for i in range(case.num_inputs):
                implementation.run(i)
            implementation.run(0)
            torch.cuda.synchronize()
            error = implementation.error()
        except (RuntimeError, NotImplementedError, ValueError) as problem:
            print(f"  {implementation.name}: does not run: {str(problem).splitlines()[0]}")
            session.num_wrong += implementation.is_own
            continue
        if not error <= case.error_limit:
            print(f"  {implementation.name}: WRONG, error {error:.2e}: no time reported")
            session.num_wrong += implementation.is_own
            continue
        errors[implementation.name] = error
        kept.append(implementation)
    case.implementations = kept
    return errors


def run_case(case: Case, session: Session) -> None:
    title = f"{case.op} " + " ".join(f"{key}={value}" for key, value in case.shape.items())
    print(title, flush=True)
    errors = correct_implementations(case, session)
    if not case.implementations:
        return
    clocks: list[int] = []
    clock = session.sm_clock
    times = measure(case, lambda: clocks.append(clock.read()) if clock else None)
    sm_mhz = round(statistics.median(clocks)) if any(clocks) else None
    if clock and sm_mhz and sm_mhz < LOWEST_CLOCK * clock.max_mhz:
        print(f"  throttled, {sm_mhz} of {clock.max_mhz} MHz: the case keeps the rows it has")
        session.num_throttled += 1
        return
    medians = [statistics.median(samples) for samples in times]
    peers = [n for n, i in enumerate(case.implementations) if i.is_peer]
    best_peer = min(peers, key=lambda n: medians[n], default=None)
    for n, implementation in enumerate(case.implementations):
        ratio = None
        num_bytes = implementation.bytes or case.bytes
        if best_peer is not None:
            pairs = zip(times[best_peer], times[n])
            ratio = round(statistics.median(peer / own for peer, own in pairs), 3)
        row = {
            "family": case.family,
            "op": case.op,
            "shape": case.shape,
            "impl": implementation.name,
            "us": round(medians[n], 2),
            "metric": metric(case, num_bytes, medians[n], session.limits),
            "ratio_best_peer": ratio,
            "ratio_limit": round(limit_us(case, num_bytes, session.limits) / medians[n], 3),
            "error": float(f"{errors[implementation.name]:.3e}"),
            "sm_mhz": sm_mhz,
            "device": session.device,
            "driver": session.driver,
            "commit": session.commit,
        }
        session.rows.append(row)
        print_row(row, session.num_sms)
    write_rows(session, case.family, keep_others=True)  # an interrupted run keeps what it has


def print_row(row: dict[str, Any], num_sms: int) -> None:
    """With flop per clock and multiprocessor where the matrix units matter; dense bf16: 4096."""
    per_clock = ""
    if "tflops" in row["metric"] and row["sm_mhz"]:
        flop = row["metric"]["tflops"] * 1e6 / (row["sm_mhz"] * num_sms)
        per_clock = f"  {flop:.0f} flop/clock/SM at {row['sm_mhz']} MHz"
    print(
        f"  {row['impl']:16} {row['us']:10.2f} us  {row['metric']}{per_clock}"
        f"  to best peer {row['ratio_best_peer']}  to limit {row['ratio_limit']}"
        f"  error {row['error']:.1e}",
        flush=True,
    )


def case_key(row: dict[str, Any]) -> str:
    return f"{row['op']} {json.dumps(row['shape'])}"


def write_rows(session: Session, family: str, keep_others: bool) -> str:
    """Writes benchmarks/results/<device>-<family>.json and says so.

    keep_others: cases that did not run this time keep the rows they have there.
    """
    name = f"{device_file_stem(session.device)}-{family}.json"
    path = ROOT / "benchmarks" / "results" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: list[dict[str, Any]] = []
    if keep_others and path.exists():
        fresh = {case_key(row) for row in session.rows}
        kept = [row for row in json.loads(path.read_text()) if case_key(row) not in fresh]
    rows = [json.dumps(row) for row in [*kept, *session.rows]]
    path.write_text("[\n " + ",\n ".join(rows) + "\n]\n" if rows else "[]\n")
    return f"written: {path.relative_to(ROOT)} ({len(rows)} rows)"


def finish(session: Session, family: str, keep_others: bool = False) -> int:
    """Writes the rows; exit status 1 when Quire was wrong, or the GPU too slow to be measured."""
    print(write_rows(session, family, keep_others or session.num_throttled > 0))
    return 1 if session.num_wrong or session.num_throttled else 0


def relative_error(out: torch.Tensor, reference: torch.Tensor) -> float:
    """Frobenius norm of the difference over that of the reference."""
    difference = (out.double() - reference.double()).norm()
    value = float(difference / reference.double().norm())
    return value if math.isfinite(value) else math.inf


def is_wanted(title: str, texts: Sequence[str]) -> bool:
    return all(text in title for text in texts)
