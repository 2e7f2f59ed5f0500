"""Reservations, plans that the device makes, and results that do not depend on the batch."""

import numpy as np
import pytest
import quire
from reference import PagedCase

SHAPE = {"heads": 4, "kv_heads": 2, "dim": 32}
KIND = {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim_qk": 32, "page_size": 4, "q_dtype": "f32"}
ROOM = {"max_batch_size": 3, "max_total_q": 3, "max_kv_entries": 40}


def decode_case(kv_lens):
    return PagedCase([1] * len(kv_lens), kv_lens, page_size=4, **SHAPE)


def pools(case):
    return case.k_cache.astype(np.float32), case.v_cache.astype(np.float32)


def test_reserved_plans_take_any_length_within_the_room(close):
    engine = quire.BatchAttention("cpu")
    expected_bytes = engine.reserve(**ROOM, **KIND, dry_run=True)
    assert engine.reserve(**ROOM, **KIND) == expected_bytes == engine.workspace_bytes
    for kv_lens in ([30, 1, 9], [0, 60], [5]):
        case = decode_case(kv_lens)
        assert engine.plan(case.qo_indptr, *case.table(), **KIND) == expected_bytes
        out = engine.run(case.q.astype(np.float32), *pools(case))
        close(out, case.expected()[0], 1e-5)
    case = decode_case([1, 1, 1, 1])
    with pytest.raises(ValueError, match="batch_size: got 4, expected at most 3, as reserved"):
        engine.plan(case.qo_indptr, *case.table(), **KIND)
    with pytest.raises(ValueError, match="max_batch_size: got 0"):
        engine.reserve(**{**ROOM, "max_batch_size": 0}, **KIND)


def test_rows_past_the_plan_are_left_alone():
    engine = quire.BatchAttention("cpu")
    engine.reserve(**ROOM, **KIND)
    case = decode_case([9])
    engine.plan(case.qo_indptr, *case.table(), **KIND)
    q, out = np.ones((3, 4, 32), np.float32), np.full((3, 4, 32), np.nan, np.float32)
    engine.run(q, *pools(case), out=out)
    assert np.isfinite(out[0]).all() and np.isnan(out[1:]).all()


def block_tables(case, max_pages):
    indptr, indices, _ = (np.asarray(x) for x in case.table())
    tables = np.full((len(indptr) - 1, max_pages), -1, np.int32)
    for r, row in enumerate(tables):
        row[: indptr[r + 1] - indptr[r]] = indices[indptr[r] : indptr[r + 1]]
    return tables


def test_plan_on_device(close):
    engine = quire.BatchAttention("cpu")
    case = decode_case([30, 0, 9])
    seq_lens = np.array([30, 0, 9], np.int32)
    tables = block_tables(case, 10)
    with pytest.raises(ValueError, match="expected a call of reserve"):
        engine.plan_on_device(seq_lens, tables, **KIND)
    engine.reserve(**ROOM, **KIND)
    engine.plan_on_device(seq_lens, tables, **KIND)
    engine.check_plan()
    out = engine.run(case.q.astype(np.float32), *pools(case))
    close(out, case.expected()[0], 1e-5)
    indptr, indices, _ = (np.asarray(x, np.int32) for x in case.table())
    engine.plan_on_device(seq_lens, kv_indptr=indptr, kv_indices=indices, **KIND)
    np.testing.assert_array_equal(engine.run(case.q.astype(np.float32), *pools(case)), out)
    with pytest.raises(ValueError, match=r"seq_lens: got 41 at \[2\], expected 0 to 40"):
        engine.plan_on_device(np.array([1, 1, 41], np.int32), tables, **KIND)
    with pytest.raises(ValueError, match="either block_tables, or kv_indptr and kv_indices"):
        engine.plan_on_device(seq_lens, tables, kv_indptr=indptr, **KIND)


def test_batch_invariant_results_are_the_same_bits():
    kind = {**KIND, "batch_invariant": True, "fixed_split_size": 8}
    case = decode_case([30, 3, 60])

    def first_row(count):
        engine = quire.BatchAttention("cpu")
        indptr, indices, last = case.table()
        engine.plan(
            case.qo_indptr[: count + 1],
            indptr[: count + 1],
            indices[: indptr[count]],
            last[:count],
            **kind,
        )
        return engine.run(case.q[:count].astype(np.float32), *pools(case), return_lse=True)

    alone, together = first_row(1), first_row(3)
    for a, b in zip(alone, together):
        np.testing.assert_array_equal(a[0], b[0])
