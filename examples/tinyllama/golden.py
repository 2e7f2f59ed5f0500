"""Writes what Hugging Face transformers answers to prompts.txt, for the tests to compare with.

    python examples/tinyllama/golden.py --model examples/tinyllama/model --out golden.json

The bf16 weights are computed with in float32, without TF32 and without a KV-cache: every token
comes from a forward pass over the whole text so far.
"""

import argparse
import json
import pathlib

import torch
import transformers

BOS = 256


def read_prompts(path):
    """One prompt a line; backslash n stands for a line break."""
    return [line.replace("\\n", "\n") for line in path.read_text().splitlines() if line]


@torch.no_grad()
def continuation(model, prompt, count, logit_rows):
    ids = [BOS, *prompt.encode()]
    num_prompt = len(ids)
    margins, logits = [], []
    for i in range(count):
        row = model(torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1]
        (best, second), order = row.topk(2)
        margins.append(round(float(best - second), 5))
        if i < logit_rows:
            logits.append([round(float(x), 5) for x in row])
        ids.append(int(order[0]))
    return {
        "prompt": prompt,
        "token_ids": ids[num_prompt:],
        "text": bytes(i for i in ids[num_prompt:] if i < 256).decode(errors="replace"),
        "margins": margins,
        "logits": logits,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--logit-rows", type=int, default=4)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    model = transformers.LlamaForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    model = model.to(arguments.device).eval()
    prompts = read_prompts(pathlib.Path(__file__).with_name("prompts.txt"))
    results = []
    for prompt in prompts:
        results.append(continuation(model, prompt, arguments.tokens, arguments.logit_rows))
        print(prompt[-60:] + results[-1]["text"], "\n---", flush=True)
    report = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "device": str(arguments.device),
        "dtype": "float32",
        "smallest_margin": min(m for r in results for m in r["margins"]),
        "prompts": results,
    }
    arguments.out.write_text(json.dumps(report) + "\n")
    print("smallest margin", report["smallest_margin"])


if __name__ == "__main__":
    main()
