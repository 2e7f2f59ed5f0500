"""What benchmarks compute on and what they compare with."""

import math
import pathlib
import sys

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks"))

import attention_inputs  # noqa: E402
import traces  # noqa: E402


@pytest.fixture(autouse=True)
def on_host(monkeypatch):
    monkeypatch.setattr(attention_inputs, "DEVICE", "cpu")
    torch.manual_seed(0)


def problem(qo_lens, kv_lens, causal=True, window_left=-1):
    return attention_inputs.Problem(
        tuple(qo_lens), tuple(kv_lens), 4, 2, 16, 8, causal, window_left
    )


def test_causal_is_half_of_a_square_and_one_row_sees_everything():
    assert problem([8], [8]).seen_pairs() == 32
    assert problem([8], [8], causal=False).seen_pairs() == 64
    assert problem([4], [12]).seen_pairs() == 4 * (12 - 2)
    assert problem([1], [12]).seen_pairs() == 12
    assert problem([8], [8], causal=False).flops() == 2 * 64 * 4 * (16 + 8)


@pytest.mark.parametrize("page_size", [1, 4, 5])
def test_pages_hold_the_same_tokens(page_size):
    lengths = [3, 10, 5]
    shape = problem(lengths, lengths)
    tensors = attention_inputs.random_tensors(shape)
    pages = attention_inputs.paged(shape, tensors, page_size)
    for request, length in enumerate(lengths):
        begin, end = pages.kv_indptr[request : request + 2]
        assert pages.kv_last_page_len[request] == length - (end - begin - 1) * page_size
        chosen = pages.kv_indices[begin:end].long()
        first = int(tensors.kv_indptr[request])
        for pool, rows in ((pages.k_pool, tensors.k), (pages.v_pool, tensors.v)):
            assert torch.equal(pool[chosen].flatten(0, 1)[:length], rows[first : first + length])


@pytest.mark.parametrize(
    ("qo_len", "causal", "window_left"), [(7, False, -1), (3, True, -1), (7, True, 2)]
)
def test_reference_is_attention(qo_len, causal, window_left):
    shape = problem([qo_len], [7], causal, window_left)
    tensors = attention_inputs.random_tensors(shape)
    reference = attention_inputs.reference(shape, tensors)
    row = torch.arange(qo_len)[:, None] + 7 - qo_len
    token = torch.arange(7)[None, :]
    seen = (token <= row) | (not causal)
    seen &= (token >= row - window_left) | (window_left < 0)
    q, k, v = (x.double().transpose(0, 1) for x in (tensors.q, tensors.k, tensors.v))
    k, v = (x.repeat_interleave(2, dim=0) for x in (k, v))
    scores = (q @ k.transpose(1, 2) / math.sqrt(16)).masked_fill(~seen, -math.inf)
    out = (torch.softmax(scores, -1) @ v).transpose(0, 1)
    assert reference.error(out) < 1e-12
    out[-1] += 1
    assert reference.error(out) > 0.1


def test_a_sample_has_the_ends_and_no_doubles():
    assert attention_inputs.sample(5, 8) == [0, 1, 2, 3, 4]
    drawn = attention_inputs.sample(1000, 16)
    assert len(set(drawn)) == 16 and drawn == sorted(drawn)
    assert (drawn[0], drawn[-1]) == (0, 999)


def test_draws_from_traces_do_not_depend_on_what_follows(tmp_path, monkeypatch):
    monkeypatch.setenv("QUIRE_TRACES", str(tmp_path))
    assert traces.lengths("azure_conv") == []
    rows = [f"t,{10 + i},{i}" for i in range(1500)]
    path = tmp_path / traces.FILES["azure_conv"]
    header = "TIMESTAMP,ContextTokens,GeneratedTokens"
    path.write_text("\n".join([header, *rows]))
    whole = traces.draw(traces.lengths("azure_conv"), 5, 500)
    path.write_text("\n".join([header, *rows[:1000]]))
    assert traces.draw(traces.lengths("azure_conv"), 5, 500) == whole
    assert max(prompt for prompt, _ in whole) <= 500
    (tmp_path / traces.FILES["mooncake"]).write_text('{"input_length": 7, "output_length": 2}\n')
    assert traces.lengths("mooncake") == [(7, 2)]
