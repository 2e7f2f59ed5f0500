"""Request lengths from public serving traces, which the project does not contain.

The environment variable QUIRE_TRACES names a folder with any of the files below, whole or only
their first 1,000 requests; benchmarks over them are left out for those that are missing.
"""

from __future__ import annotations

import csv
import json
import os
import pathlib
import random

FILES = {
    "azure_conv": "AzureLLMInferenceTrace_conv.csv",
    "azure_code": "AzureLLMInferenceTrace_code.csv",
    "mooncake": "conversation_trace.jsonl",
}
NUM_REQUESTS = 1000  # draws are from the first ones, so that part of a file gives the same


def lengths(name: str) -> list[tuple[int, int]]:
    """(prompt, answer) tokens of the first requests; empty where the file is not given."""
    folder = os.environ.get("QUIRE_TRACES")
    path = pathlib.Path(folder or ".") / FILES[name]
    if not folder or not path.exists():
        return []
    with path.open(newline="") as file:
        if path.suffix == ".jsonl":
            rows = (json.loads(line) for _, line in zip(range(NUM_REQUESTS), file))
            return [(int(row["input_length"]), int(row["output_length"])) for row in rows]
        rows = (row for _, row in zip(range(NUM_REQUESTS), csv.DictReader(file)))
        return [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in rows]


def draw(
    requests: list[tuple[int, int]], count: int, longest: int, seed: int = 0
) -> list[tuple[int, int]]:
    """`count` different requests with prompts of at most `longest` tokens, always the same ones."""
    eligible = [request for request in requests if 0 < request[0] <= longest]
    return random.Random(seed).sample(eligible, count)
