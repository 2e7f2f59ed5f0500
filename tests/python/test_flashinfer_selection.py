"""FlashInfer's renormalising, top-k, chains and logits pipelines."""

import numpy as np
import pytest
import quire.flashinfer as fi
from quire.flashinfer.logits_processor import (
    FusionRule,
    LogitsPipe,
    MinP,
    Sample,
    Softmax,
    TaggedTensor,
    Temperature,
    TensorType,
    TopK,
    TopP,
)
from quire.flashinfer.logits_processor.op import FusedOp, SoftmaxOp


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def logits_of(torch, rows=4, vocab=64):
    return torch.from_numpy(np.random.default_rng(1).standard_normal((rows, vocab))).float() * 2


def test_renorm_probs(torch):
    probs = torch.softmax(logits_of(torch), -1)
    top_k = fi.top_k_renorm_probs(probs, 5)
    values, indices = torch.topk(probs, 5)
    expected = torch.zeros_like(probs).scatter_(-1, indices, values)
    torch.testing.assert_close(top_k, expected / expected.sum(-1, keepdim=True))
    assert fi.top_k_renorm_probs(probs.half(), 5).dtype == torch.float16
    assert fi.top_p_renorm_probs(probs.half(), 0.5).dtype == torch.float32
    p = torch.tensor([0.1, 0.5, 0.9, 1.0])
    top_p = fi.top_p_renorm_probs(probs, p)
    torch.testing.assert_close(top_p.sum(-1), torch.ones(4))
    torch.testing.assert_close(top_p[3], probs[3])
    assert fi.sampling.top_k_renorm_prob is fi.top_k_renorm_probs
    masked = fi.top_k_mask_logits(probs, torch.tensor([1, 2, 3, 0]))
    assert (masked > -torch.inf).sum(-1).tolist() == [1, 2, 3, 64]


def test_top_k(torch):
    x = logits_of(torch, 3, 500)
    values, indices = fi.top_k(x, 50, sorted=True)
    expected = torch.topk(x, 50)
    torch.testing.assert_close(values, expected.values)
    assert indices.dtype == torch.int64
    torch.testing.assert_close(indices, expected.indices)
    ties = torch.ones(1, 100)
    assert fi.top_k(ties, 3)[1].tolist() == [[0, 1, 2]]
    assert fi.top_k(ties, 3, tie_break=fi.TopKTieBreak.LARGE)[1].tolist() == [[99, 98, 97]]


def test_top_k_transforms(torch):
    x = logits_of(torch, 3, 40)
    lengths = torch.tensor([40, 4, 0])
    table = torch.arange(1000, 1080).view(2, 40).int()
    out = fi.top_k_page_table_transform(x, table, lengths, 5, torch.tensor([1, 0, 0]))
    first = 1040 + torch.sort(torch.topk(x[0], 5).indices).values
    assert out[0].tolist() == first.tolist()
    assert out[1:].tolist() == [[1000, 1001, 1002, 1003, -1], [-1] * 5]
    ragged = fi.top_k_ragged_transform(x, torch.tensor([0, 40, 80]), lengths, 5)
    assert ragged[1:].tolist() == [[40, 41, 42, 43, -1], [-1] * 5]


@pytest.mark.parametrize("next_n", [1, 2])
def test_top_k_varlen(torch, next_n):
    import quire.flashinfer as fi

    x = torch.randn(3 * next_n, 40)
    seq_lens = torch.tensor([17, 3, 99], dtype=torch.int32)
    options = {"next_n": next_n, "compress_ratio": 2}
    indices, none = fi.top_k_varlen(x, seq_lens, 5, **options)
    assert none is None and indices.dtype == torch.int32
    out = torch.empty_like(indices)
    same, values = fi.top_k_varlen(x, seq_lens, 5, return_values=True, out_indices=out, **options)
    assert same is out and torch.equal(out, indices)
    for r in range(3 * next_n):
        length = min(40, (int(seq_lens[r // next_n]) - next_n + r % next_n + 1) // 2)
        expected = torch.topk(x[r, :length], min(5, length))
        found = indices[r][indices[r] >= 0]
        assert torch.equal(found.long(), expected.indices)
        assert torch.equal(values[r, : len(found)], expected.values)
        assert (values[r, len(found) :] == -torch.inf).all()
    with pytest.raises(ValueError, match="backend: got 'none'"):
        fi.top_k_varlen(x, seq_lens, 5, backend="none")


def test_chain_speculative_sampling(torch):
    draft = torch.softmax(logits_of(torch, 6, 16).view(2, 3, 16), -1)
    target = torch.cat([draft, draft[:, :1]], 1)
    tokens = torch.argmax(draft, -1)
    accepted = torch.full((2,), 7, dtype=torch.int32)
    ids, got, emitted = fi.chain_speculative_sampling(
        draft, tokens, target, accepted, seed=1, offset=2
    )
    assert got is accepted and accepted.tolist() == [10, 10] and emitted.tolist() == [3, 3]
    assert ids[:, :3].tolist() == tokens.tolist() and (ids[:, 3] >= 0).all()


PIPES = [
    [Temperature(), Softmax(), TopK(), TopP(), MinP(), Sample()],
    [Temperature(), Softmax(), TopK(joint_topk_topp=True), TopP(), Sample()],
    [TopK(), Softmax(), TopP(), Sample()],
    [Temperature(), TopK(), Sample()],
    [Softmax(), TopP(), TopK(), Sample()],
    [Softmax(), MinP(), TopP(), Sample()],
    [Temperature(), Softmax(), TopK(), TopP()],
    [Temperature(), Softmax()],
]
PARAMETERS = {"temperature": 0.7, "top_k": 9, "top_p": 0.6, "min_p": 0.05}


@pytest.mark.parametrize("processors", PIPES)
def test_fused_pipes_mean_what_their_steps_mean(torch, processors):
    logits = logits_of(torch).repeat(500, 1)
    run_time = {"seed": torch.arange(2000), "offset": 0}
    fused = LogitsPipe(processors, input_type=TensorType.LOGITS)
    steps = LogitsPipe(processors, compile=False, input_type=TensorType.LOGITS)
    assert len(fused.compiled_ops) < len(steps.ops)
    one, many = (pipe(logits, **PARAMETERS, **run_time) for pipe in (fused, steps))
    if fused.compiled_ops[-1].OUT == TensorType.PROBS:
        torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-7)
        return
    # Rounding moves a draw now and then, never out of the set.
    assert (one == many).float().mean() > 0.99
    for row in range(4):
        assert set(one[row::4].tolist()) == set(many[row::4].tolist())


def test_one_pass_from_logits_to_tokens():
    pipe = LogitsPipe([Temperature(), Softmax(), TopK(), TopP(), MinP(), Sample()])
    assert [type(op) for op in pipe.compiled_ops] == [FusedOp]
    # The nucleus of what min-p keeps is no prefix filter of the whole row.
    apart = LogitsPipe([Softmax(), MinP(), TopP(), Sample()])
    assert len(apart.compiled_ops) > 1


def test_pipes_from_probs_and_default_parameters(torch):
    probs = torch.softmax(logits_of(torch), -1)
    pipe = LogitsPipe([TopK(top_k=1), Sample()], input_type=TensorType.PROBS)
    assert pipe(probs).tolist() == probs.argmax(-1).tolist()
    assert pipe(TaggedTensor.probs(probs)).tolist() == probs.argmax(-1).tolist()
    renormed = LogitsPipe([TopK()], input_type=TensorType.PROBS)(probs, top_k=3)
    assert (renormed > 0).sum(-1).tolist() == [3] * 4


def test_custom_rules_and_errors(torch):
    built = []

    class Doubled(SoftmaxOp):
        pass

    rule = FusionRule((SoftmaxOp,), lambda w: type(w[0]) is SoftmaxOp, lambda w: Doubled(), 5)
    pipe = LogitsPipe(
        [Softmax()], custom_fusion_rules=[rule], custom_validity_checks=[built.append]
    )
    assert type(pipe.compiled_ops[0]) is Doubled and len(built) == 1
    for processors, message in (
        ([], "processors: got none"),
        ([TopK(), Sample()], "input_type: got None"),
        ([Softmax(), Softmax()], "processor 1: Softmax: input"),
        ([Softmax(), Sample(), Sample()], "processor 2: Sample: input"),
    ):
        with pytest.raises(ValueError, match=message):
            LogitsPipe(processors)
    with pytest.raises(ValueError, match="top_p: got nothing"):
        LogitsPipe([Softmax(), TopP(), Sample()])(logits_of(torch))
    with pytest.raises(ValueError, match="temperature: got 0"):
        LogitsPipe([Temperature(), Softmax()])(logits_of(torch), temperature=0)
