"""Trains the example's byte-level Llama and saves it as Hugging Face's LlamaForCausalLM would.

    python examples/tinyllama/train.py --corpus corpus.txt --out examples/tinyllama/model

Needs torch and safetensors. A GPU takes a few minutes; `--device cpu --steps 20` only tries the
script. The learning rate follows a cosine over the planned steps, or over `--minutes` where those
would take longer. The weights with the lowest validation loss are kept.
"""

import argparse
import json
import math
import pathlib
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

BOS, EOS, PAD = 256, 257, 258  # after the 256 byte values


@dataclass
class Config:
    """Names as in LlamaConfig."""

    vocab_size: int = 264  # 256 bytes, 3 specials, padded to a multiple of 8
    hidden_size: int = 256
    intermediate_size: int = 688
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    initializer_range: float = 0.02


def rotary_table(config, device):
    """cos and sin [max_position, head_dim], the two halves repeated."""
    half = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32)
    frequency = config.rope_theta ** (-half / config.head_dim)
    positions = torch.arange(config.max_position_embeddings, device=device, dtype=torch.float32)
    angle = torch.outer(positions, frequency).repeat(1, 2)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        c = self.c

        def heads(projection, count):
            return projection(x).view(batch, length, count, c.head_dim).transpose(1, 2)

        q = rotate(heads(self.q_proj, c.num_attention_heads), cos, sin)
        k = rotate(heads(self.k_proj, c.num_key_value_heads), cos, sin)
        v = heads(self.v_proj, c.num_key_value_heads)
        group = c.num_attention_heads // c.num_key_value_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c, dropout):
        super().__init__()
        self.self_attn = Attention(c)
        self.mlp = Mlp(c)
        self.input_layernorm = nn.RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, cos, sin):
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cos, sin))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


class LlamaModel(nn.Module):
    def __init__(self, c, dropout):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c, dropout) for _ in range(c.num_hidden_layers))
        self.norm = nn.RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.dropout = nn.Dropout(dropout)


class Llama(nn.Module):
    """The embedding is also the output projection (tied)."""

    def __init__(self, c, dropout, device):
        super().__init__()
        self.c = c
        self.model = LlamaModel(c, dropout)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=c.initializer_range)
        self.to(device)
        self.cos, self.sin = rotary_table(c, device)

    def forward(self, tokens):
        length = tokens.shape[1]
        x = self.model.dropout(self.model.embed_tokens(tokens))
        for layer in self.model.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)


class Corpus:
    """Chapters as bos, bytes, eos; every 20th one is for validation."""

    def __init__(self, path, device):
        chapters = path.read_bytes().rstrip(b"\n").split(b"\n\n")
        ids = [[BOS, *chapter, EOS] for chapter in chapters]
        self.train = self.flatten([d for i, d in enumerate(ids) if i % 20 != 10], device)
        self.validation = self.flatten([d for i, d in enumerate(ids) if i % 20 == 10], device)
        self.chapter_starts = (self.train == BOS).nonzero().flatten()

    @staticmethod
    def flatten(documents, device):
        return torch.tensor([i for d in documents for i in d], dtype=torch.int32, device=device)

    def batch(self, size, length, generator):
        """Inputs and targets; half of the windows begin with a chapter."""
        last = len(self.train) - length - 1
        anywhere = torch.randint(last, (size,), generator=generator)
        chapter = torch.randint(len(self.chapter_starts), (size // 2,), generator=generator)
        starts = anywhere.to(self.train.device)
        starts[: size // 2] = self.chapter_starts[chapter.to(starts.device)].clamp(max=last)
        window = self.train[starts[:, None] + torch.arange(length + 1, device=starts.device)].long()
        return window[:, :-1], window[:, 1:]


def loss_of(model, inputs, targets):
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        logits = model(inputs)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


@torch.no_grad()
def validation_loss(model, tokens, length):
    model.eval()
    count = (len(tokens) - 1) // length
    inputs = tokens[: count * length].view(count, length).long()
    targets = tokens[1 : count * length + 1].view(count, length).long()
    losses = [
        loss_of(model, i, t) for i, t in zip(inputs.split(16), targets.split(16), strict=True)
    ]
    weights = torch.tensor([len(i) for i in inputs.split(16)], device=tokens.device)
    model.train()
    return float((torch.stack(losses) * weights).sum() / count)


@torch.no_grad()
def sample(model, prompt, count, temperature, generator):
    model.eval()
    device = model.cos.device
    ids = torch.tensor([[BOS, *prompt.encode()]], device=device)
    for _ in range(count):
        logits = model(ids)[0, -1].float() / temperature
        probabilities = F.softmax(logits[:256], dim=-1).cpu()
        following = torch.multinomial(probabilities, 1, generator=generator)
        ids = torch.cat((ids, following.to(device)[None]), dim=1)
    model.train()
    return bytes(ids[0, 1:].tolist()).decode(errors="replace")


def optimizer_of(model, weight_decay):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=model.cos.is_cuda)


def learning_rate(arguments, step, progress):
    warmup = min(1.0, (step + 1) / arguments.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return arguments.lr * warmup * (0.02 + 0.98 * cosine)


def train(model, corpus, arguments):
    """Returns the best weights (float32, on the CPU) and the log of (step, seconds, losses)."""
    generator = torch.Generator().manual_seed(arguments.seed)
    optimizer = optimizer_of(model, arguments.weight_decay)
    forward = torch.compile(model) if arguments.compile else model
    best, best_loss, log = None, math.inf, []
    loss = torch.tensor(math.nan)
    begin, budget_s = time.monotonic(), arguments.minutes * 60
    for step in range(arguments.steps + 1):
        elapsed_s = time.monotonic() - begin
        progress = max(step / arguments.steps, elapsed_s / budget_s)
        last = progress >= 1
        if last or (step > 0 and step % arguments.eval_every == 0):
            validation = validation_loss(model, corpus.validation, arguments.length)
            log.append(
                {
                    "step": step,
                    "seconds": round(elapsed_s, 1),
                    "train_loss": round(loss.item(), 4),
                    "validation_loss": round(validation, 4),
                }
            )
            print(log[-1], flush=True)
            if validation < best_loss:
                best_loss = validation
                best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        if last:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(arguments, step, progress)
        inputs, targets = corpus.batch(arguments.batch, arguments.length, generator)
        loss = loss_of(forward, inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return best, log


def save(directory, config, weights, report):
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.to(torch.bfloat16).contiguous() for name, t in weights.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    specials = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    model_config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        **asdict(config),
        **specials,
    }
    files = {
        "config.json": model_config,
        "generation_config.json": specials,
        "training.json": report,
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=2) + "\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--eval-every", type=int, default=250)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    config = Config()
    model = Llama(config, arguments.dropout, arguments.device)
    corpus = Corpus(arguments.corpus, arguments.device)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {len(corpus.train)} training tokens", flush=True)
    weights, log = train(model, corpus, arguments)
    model.load_state_dict(weights)
    generator = torch.Generator().manual_seed(arguments.seed)
    prompts = ["And it came to pass", "The king said unto his servant,", "Blessed is the man"]
    samples = [sample(model, prompt, 300, 0.7, generator) for prompt in prompts]
    print(*samples, sep="\n---\n")
    settings = {k: v for k, v in vars(arguments).items() if k not in ("corpus", "out")}
    report = {
        "parameters": parameters,
        "training_tokens": len(corpus.train),
        "validation_tokens": len(corpus.validation),
        "torch": torch.__version__,
        "settings": settings,
        "log": log,
        "samples": samples,
    }
    save(arguments.out, config, weights, report)


if __name__ == "__main__":
    main()
