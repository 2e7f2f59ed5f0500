"""Names, argument names, order and defaults of FlashInfer 0.6.18, typed from its reference."""

import inspect

import pytest
import quire.flashinfer as fi

TOPK_TAIL = "deterministic=False, tie_break=<TopKTieBreak.NONE: 0>, dsa_graph_safe=False"
SAMPLING_TAIL = "deterministic=True, generator=None, check_nan=False, seed=None, offset=None"
LLAMA31 = (
    "rotary_dim=None, interleave=False, rope_scale=8, rope_theta=500000.0, low_freq_factor=1, "
    "high_freq_factor=4, old_context_len=8192"
)
ROPE = "rotary_dim=None, interleave=False, rope_scale=1, rope_theta=10000.0"
ROPE_QUANTIZE = (
    "q_rope, k_rope, q_nope, k_nope, cos_sin_cache, pos_ids, is_neox=True, quantize_dtype=None, "
    "quant_scale_q=1.0, quant_scale_kv=1.0, q_rope_out=None, k_rope_out=None, q_nope_out=None, "
    "k_nope_out=None"
)
PREFILL_TABLE = (
    "self, qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, num_qo_heads, "
    "num_kv_heads, head_dim_qk, page_size, head_dim_vo=None, custom_mask=None, "
    "packed_custom_mask=None, causal=False, pos_encoding_mode='NONE', use_fp16_qk_reduction=False, "
    "sm_scale=None, window_left=-1, logits_soft_cap=None, rope_scale=None, rope_theta=None, "
    "q_data_type='float16', kv_data_type=None, o_data_type=None, "
)
MULTI_ITEM = (
    "prefix_len_ptr=None, token_pos_in_items_ptr=None, token_pos_in_items_len=0, "
    "max_item_len_ptr=None, "
)
PREFILL_END = (
    "seq_lens=None, seq_lens_q=None, block_tables=None, max_token_per_sequence=None, "
    "max_sequence_kv=None, fixed_split_size=None, disable_split_kv=False"
)
FORWARD_END = (
    "window_left=-1, logits_soft_cap=None, sm_scale=None, rope_scale=None, rope_theta=None"
)
DECODE_FORWARD = (
    "self, q, paged_kv_cache, pos_encoding_mode='NONE', q_scale=None, k_scale=None, v_scale=None, "
)
PREFILL_FORWARD = (
    "self, q, paged_kv_cache, causal=False, pos_encoding_mode='NONE', use_fp16_qk_reduction=False, "
    "k_scale=None, v_scale=None, "
)
RAGGED_FORWARD = (
    "self, q, k, v, causal=False, pos_encoding_mode='NONE', use_fp16_qk_reduction=False, "
)
RUN_SCALES = "q_scale=None, k_scale=None, v_scale=None, "
RUN_OUTPUTS = "out=None, lse=None, return_lse=False, enable_pdl=None, "

FUNCTIONS = {
    "page.append_paged_kv_cache": (
        "append_key, append_value, batch_indices, positions, paged_kv_cache, kv_indices, "
        "kv_indptr, kv_last_page_len, kv_layout='NHD'"
    ),
    "page.get_batch_indices_positions": (
        "append_indptr, seq_lens, nnz, batch_indices=None, positions=None"
    ),
    "page.get_seq_lens": "kv_indptr, kv_last_page_len, page_size",
    "decode.single_decode_with_kv_cache": (
        "q, k, v, kv_layout='NHD', pos_encoding_mode='NONE', use_tensor_cores=False, "
        "q_scale=None, k_scale=None, v_scale=None, window_left=-1, logits_soft_cap=None, "
        "sm_scale=None, rope_scale=None, rope_theta=None, return_lse=False"
    ),
    "prefill.single_prefill_with_kv_cache": (
        "q, k, v, scale_q=None, scale_k=None, scale_v=None, o_dtype=None, custom_mask=None, "
        "packed_custom_mask=None, causal=False, kv_layout='NHD', pos_encoding_mode='NONE', "
        "use_fp16_qk_reduction=False, sm_scale=None, window_left=-1, logits_soft_cap=None, "
        "rope_scale=None, rope_theta=None, backend='auto', return_lse=False, kv_cache_sf=None, "
        "k_scale=None, v_scale=None"
    ),
    "decode.BatchDecodeWithPagedKVCacheWrapper.__init__": (
        "self, float_workspace_buffer, kv_layout='NHD', use_cuda_graph=False, "
        "use_tensor_cores=False, paged_kv_indptr_buffer=None, paged_kv_indices_buffer=None, "
        "paged_kv_last_page_len_buffer=None, backend='auto', jit_args=None"
    ),
    "decode.BatchDecodeWithPagedKVCacheWrapper.plan": (
        "self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, "
        "*deprecated_positional_args, **kwargs"
    ),
    "decode.BatchDecodeWithPagedKVCacheWrapper._plan_impl": (
        "self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, "
        "pos_encoding_mode='NONE', window_left=-1, window_right=0, logits_soft_cap=None, "
        "q_data_type='float16', kv_data_type=None, o_data_type=None, data_type=None, "
        "sm_scale=None, rope_scale=None, rope_theta=None, non_blocking=True, block_tables=None, "
        "seq_lens=None, fixed_split_size=None, disable_split_kv=False, q_len_per_req=1"
    ),
    "decode.BatchDecodeWithPagedKVCacheWrapper.run": (
        f"self, q, paged_kv_cache, *args, {RUN_SCALES}{RUN_OUTPUTS}window_left=None, sinks=None, "
        "q_len_per_req=None, skip_softmax_threshold_scale_factor=None, kv_cache_sf=None"
    ),
    "decode.BatchDecodeWithPagedKVCacheWrapper.forward": DECODE_FORWARD + FORWARD_END,
    "decode.BatchDecodeWithPagedKVCacheWrapper.forward_return_lse": DECODE_FORWARD + FORWARD_END,
    "decode.BatchDecodeWithPagedKVCacheWrapper.end_forward": "self",
    "decode.BatchDecodeWithPagedKVCacheWrapper.workspace_size": (
        "self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, "
        "pos_encoding_mode='NONE', window_left=-1, logits_soft_cap=None, q_data_type='float16', "
        "kv_data_type=None, o_data_type=None, data_type=None, sm_scale=None, rope_scale=None, "
        "rope_theta=None, block_tables=None, seq_lens=None, fixed_split_size=None, "
        "disable_split_kv=False, q_len_per_req=1"
    ),
    "decode.BatchDecodeWithPagedKVCacheWrapper.reset_workspace_buffer": (
        "self, float_workspace_buffer, int_workspace_buffer"
    ),
    "decode.CUDAGraphBatchDecodeWithPagedKVCacheWrapper.__init__": (
        "self, workspace_buffer, indptr_buffer, indices_buffer, last_page_len_buffer, "
        "kv_layout='NHD', use_tensor_cores=False"
    ),
    "decode.fast_decode_plan": (
        "self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, "
        "pos_encoding_mode='NONE', window_left=-1, logits_soft_cap=None, q_data_type=None, "
        "kv_data_type=None, data_type=None, sm_scale=None, rope_scale=None, rope_theta=None, "
        "non_blocking=True, fixed_split_size=None, disable_split_kv=False, q_len_per_req=1, "
        "global_override_indptr_cpu=None"
    ),
    "prefill.BatchPrefillWithPagedKVCacheWrapper.__init__": (
        "self, float_workspace_buffer, kv_layout='NHD', use_cuda_graph=False, qo_indptr_buf=None, "
        "paged_kv_indptr_buf=None, paged_kv_indices_buf=None, paged_kv_last_page_len_buf=None, "
        "custom_mask_buf=None, mask_indptr_buf=None, backend='auto', jit_args=None, "
        "jit_kwargs=None"
    ),
    "prefill.BatchPrefillWithPagedKVCacheWrapper.plan": (
        f"{PREFILL_TABLE}non_blocking=True, {MULTI_ITEM}{PREFILL_END}"
    ),
    "prefill.BatchPrefillWithPagedKVCacheWrapper.run": (
        f"self, q, paged_kv_cache, *args, {RUN_SCALES}{RUN_OUTPUTS}window_left=None, sinks=None, "
        "kv_cache_sf=None, skip_softmax_threshold_scale_factor=None, use_fp16_softmax=None, "
        "uses_spcompress=None"
    ),
    "prefill.BatchPrefillWithPagedKVCacheWrapper.forward": PREFILL_FORWARD + FORWARD_END,
    "prefill.BatchPrefillWithPagedKVCacheWrapper.forward_return_lse": (
        PREFILL_FORWARD + FORWARD_END
    ),
    "prefill.BatchPrefillWithPagedKVCacheWrapper.end_forward": "self",
    "prefill.BatchPrefillWithPagedKVCacheWrapper.workspace_size": (
        PREFILL_TABLE + MULTI_ITEM + PREFILL_END
    ),
    "prefill.BatchPrefillWithPagedKVCacheWrapper.reset_workspace_buffer": (
        "self, float_workspace_buffer, int_workspace_buffer"
    ),
    "prefill.BatchPrefillWithRaggedKVCacheWrapper.__init__": (
        "self, float_workspace_buffer, kv_layout='NHD', use_cuda_graph=False, qo_indptr_buf=None, "
        "kv_indptr_buf=None, custom_mask_buf=None, mask_indptr_buf=None, backend='auto', "
        "jit_args=None, jit_kwargs=None"
    ),
    "prefill.BatchPrefillWithRaggedKVCacheWrapper.plan": (
        "self, qo_indptr, kv_indptr, num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo=None, "
        "custom_mask=None, packed_custom_mask=None, causal=False, pos_encoding_mode='NONE', "
        "use_fp16_qk_reduction=False, window_left=-1, logits_soft_cap=None, sm_scale=None, "
        "rope_scale=None, rope_theta=None, q_data_type='float16', kv_data_type=None, "
        f"o_data_type=None, non_blocking=True, {MULTI_ITEM}fixed_split_size=None, "
        "disable_split_kv=False, seq_lens=None, seq_lens_q=None, max_token_per_sequence=None, "
        "max_sequence_kv=None, v_indptr=None, o_indptr=None"
    ),
    "prefill.BatchPrefillWithRaggedKVCacheWrapper.run": (
        f"self, q, k, v, *args, {RUN_SCALES}o_scale=None, {RUN_OUTPUTS}kv_cache_sf=None"
    ),
    "prefill.BatchPrefillWithRaggedKVCacheWrapper.forward": RAGGED_FORWARD + FORWARD_END,
    "prefill.BatchPrefillWithRaggedKVCacheWrapper.forward_return_lse": (
        RAGGED_FORWARD + FORWARD_END
    ),
    "prefill.BatchPrefillWithRaggedKVCacheWrapper.end_forward": "self",
    "prefill.BatchPrefillWithRaggedKVCacheWrapper.reset_workspace_buffer": (
        "self, float_workspace_buffer, int_workspace_buffer"
    ),
    "cascade.merge_state": "v_a, s_a, v_b, s_b",
    "cascade.merge_state_in_place": "v, s, v_other, s_other, mask=None",
    "cascade.merge_states": "v, s",
    "cascade.MultiLevelCascadeAttentionWrapper.__init__": (
        "self, num_levels, float_workspace_buffer, kv_layout='NHD', use_cuda_graph=False, "
        "qo_indptr_buf_arr=None, paged_kv_indptr_buf_arr=None, paged_kv_indices_buf_arr=None, "
        "paged_kv_last_page_len_buf_arr=None"
    ),
    "cascade.MultiLevelCascadeAttentionWrapper.plan": (
        "self, qo_indptr_arr, paged_kv_indptr_arr, paged_kv_indices_arr, paged_kv_last_page_len, "
        "num_qo_heads, num_kv_heads, head_dim, page_size, causal=False, pos_encoding_mode='NONE', "
        "use_fp16_qk_reduction=False, sm_scale=None, window_left=-1, logits_soft_cap=None, "
        "rope_scale=None, rope_theta=None, q_data_type='float16', kv_data_type=None"
    ),
    "cascade.MultiLevelCascadeAttentionWrapper.run": "self, q, paged_kv_cache",
    "cascade.MultiLevelCascadeAttentionWrapper.end_forward": "self",
    "cascade.MultiLevelCascadeAttentionWrapper.reset_workspace_buffer": (
        "self, float_workspace_buffer, int_workspace_buffer"
    ),
    "rope.apply_rope_pos_ids": f"q, k, pos_ids, {ROPE}",
    "rope.apply_rope_pos_ids_inplace": f"q, k, pos_ids, {ROPE}",
    "rope.apply_llama31_rope_pos_ids": f"q, k, pos_ids, {LLAMA31}",
    "rope.apply_llama31_rope_pos_ids_inplace": f"q, k, pos_ids, {LLAMA31}",
    "page.append_paged_mla_kv_cache": (
        "append_ckv, append_kpe, batch_indices, positions, ckv_cache, kpe_cache, kv_indices, "
        "kv_indptr, kv_last_page_len"
    ),
    "rope.apply_rope": f"q, k, indptr, offsets, {ROPE}",
    "rope.apply_rope_inplace": f"q, k, indptr, offsets, {ROPE}",
    "rope.apply_llama31_rope": f"q, k, indptr, offsets, {LLAMA31}",
    "rope.apply_llama31_rope_inplace": f"q, k, indptr, offsets, {LLAMA31}",
    "rope.apply_rope_with_cos_sin_cache": (
        "positions, query, key, head_size, cos_sin_cache, is_neox=True"
    ),
    "rope.apply_rope_with_cos_sin_cache_inplace": (
        "positions, query, key, head_size, cos_sin_cache, is_neox=True"
    ),
    "rope.mla_rope_quantize_fp8": f"{ROPE_QUANTIZE}, enable_pdl=False",
    "rope.rope_quantize_fp8": f"{ROPE_QUANTIZE}, enable_pdl=False, backend='cuda'",
    "rope.rope_quantize_fp8_append_paged_kv_cache": (
        "q_rope, k_rope, q_nope, k_nope, v, cos_sin_cache, pos_ids, paged_kv_cache, kv_indices, "
        "kv_indptr, batch_indices, positions, is_neox=True, quantize_dtype=None, "
        "quant_scale_q=1.0, quant_scale_kv=1.0, page_size=16, kv_layout='NHD', q_rope_out=None, "
        "q_nope_out=None, enable_pdl=False"
    ),
    "quantization.nvfp4_kv_dequantize": (
        "fp4_data, block_scales, global_scale, output_dtype='bfloat16'"
    ),
    "quantization.nvfp4_kv_quantize": "input, global_scale",
    "quantization.nvfp4_kv_dequantize_paged": (
        "paged_kv_cache, kv_cache_sf, block_tables, seq_lens, k_scale, v_scale, output_k, "
        "output_v, kv_layout='NHD'"
    ),
    "quantization.packbits": "x, bitorder='big'",
    "quantization.per_token_group_quant_8bit": (
        "x, group_size, eps=1e-10, dst_dtype=None, column_major_scales=False, "
        "scale_tma_aligned=False, scale_ue8m0=False, backend='cutile'"
    ),
    "quantization.segment_packbits": "x, indptr, bitorder='big'",
    "concat_ops.concat_mla_k": "k, k_nope, k_rope",
    "norm.rmsnorm": "input, weight, eps=1e-06, out=None, enable_pdl=None",
    "norm.fused_add_rmsnorm": "input, residual, weight, eps=1e-06, enable_pdl=None",
    "norm.rmsnorm_quant": "out, input, weight, scale, eps=1e-06, enable_pdl=None",
    "norm.fused_add_rmsnorm_quant": (
        "out, input, residual, weight, scale, eps=1e-06, enable_pdl=None"
    ),
    "norm.gemma_rmsnorm": "input, weight, eps=1e-06, out=None, enable_pdl=None",
    "norm.gemma_fused_add_rmsnorm": "input, residual, weight, eps=1e-06, enable_pdl=None",
    "norm.layernorm": "input, gemma, beta, eps=1e-06",
    "norm.layernorm_quant": "out, input, gemma, beta, scale, eps=1e-06",
    "activation.gelu_and_mul": "input, out=None, enable_pdl=None",
    "activation.gelu_tanh_and_mul": "input, out=None, enable_pdl=None",
    "activation.silu_and_mul": "input, out=None, enable_pdl=None",
    "sampling.softmax": "logits, temperature=None, enable_pdl=None",
    "sampling.sampling_from_logits": f"logits, indices=None, {SAMPLING_TAIL}",
    "sampling.sampling_from_probs": f"probs, indices=None, {SAMPLING_TAIL}, return_valid=False",
    "sampling.top_p_sampling_from_probs": (
        f"probs, top_p, indices=None, {SAMPLING_TAIL}, return_valid=False"
    ),
    "sampling.top_k_sampling_from_probs": (
        f"probs, top_k, indices=None, {SAMPLING_TAIL}, return_valid=False"
    ),
    "sampling.min_p_sampling_from_probs": (
        f"probs, min_p, indices=None, {SAMPLING_TAIL}, return_valid=False"
    ),
    "sampling.top_k_top_p_sampling_from_logits": (
        "logits, top_k, top_p, indices=None, filter_apply_order='top_k_first', " + SAMPLING_TAIL
    ),
    "sampling.top_k_top_p_sampling_from_probs": (
        "probs, top_k, top_p, indices=None, filter_apply_order='top_k_first', "
        f"{SAMPLING_TAIL}, return_valid=False"
    ),
    "sampling.get_seed_and_offset": "increment, generator=None, device=None",
    "sampling.top_p_renorm_probs": "probs, top_p, is_deterministic=False",
    "sampling.top_k_renorm_probs": "probs, top_k",
    "sampling.top_k_mask_logits": "logits, top_k",
    "sampling.chain_speculative_sampling": (
        "draft_probs, draft_token_ids, target_probs, maybe_output_accepted_token_num=None, "
        "maybe_output_emitted_draft_token_num=None, deterministic=True, generator=None, seed=None, "
        "offset=None"
    ),
    "topk.top_k": f"input, k, sorted=False, {TOPK_TAIL}",
    "topk.top_k_page_table_transform": (
        f"input, src_page_table, lengths, k, row_to_batch=None, {TOPK_TAIL}, row_starts=None, "
        "page_table_row_starts=None, page_size=1, out=None, out_raw_indices=None"
    ),
    "topk.top_k_ragged_transform": f"input, offsets, lengths, k, {TOPK_TAIL}, row_starts=None",
    "topk.top_k_varlen": (
        "logits, seq_lens, top_k, pre_idx=None, compress_ratio=1, next_n=1, return_values=False, "
        "out_indices=None, out_values=None, backend='auto', load_balance=True, workspace=None"
    ),
    "logits_processor.LogitsPipe.__init__": (
        "self, processors, compile=True, input_type=None, custom_fusion_rules=None, "
        "custom_validity_checks=None"
    ),
    "logits_processor.LogitsPipe.__call__": "self, x, **kwargs",
    "logits_processor.LogitsPipe.compile": (
        "self, custom_fusion_rules=None, custom_validity_checks=None"
    ),
    "logits_processor.Temperature.__init__": "self, **params",
    "logits_processor.Softmax.__init__": "self, enable_pdl=None, **params",
    "logits_processor.TopK.__init__": "self, joint_topk_topp=False, **params",
    "logits_processor.TopP.__init__": "self, **params",
    "logits_processor.MinP.__init__": "self, **params",
    "logits_processor.Sample.__init__": "self, deterministic=True, **params",
}


def without_annotations(function):
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return [str(p) for p in parameters]


def find(path):
    thing = fi
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


@pytest.mark.parametrize("path", FUNCTIONS)
def test_signature(path):
    expected = FUNCTIONS[path].split(", ")
    actual = without_annotations(find(path))
    assert actual == expected


TOP_LEVEL = [
    path.split(".")[1]
    for path in FUNCTIONS
    if path.count(".") == 1
    and path not in ("sampling.get_seed_and_offset", "concat_ops.concat_mla_k")
]


@pytest.mark.parametrize("name", sorted(set(TOP_LEVEL)))
def test_top_level_name(name):
    module = next(path.split(".")[0] for path in FUNCTIONS if path.split(".")[1] == name)
    assert getattr(fi, name) is getattr(getattr(fi, module), name)


@pytest.mark.parametrize(
    "name",
    [
        "BatchDecodeWithPagedKVCacheWrapper",
        "CUDAGraphBatchDecodeWithPagedKVCacheWrapper",
        "BatchPrefillWithPagedKVCacheWrapper",
        "BatchPrefillWithRaggedKVCacheWrapper",
        "single_prefill_with_kv_cache_return_lse",
    ],
)
def test_class_at_top_level(name):
    assert hasattr(fi, name)


@pytest.mark.parametrize("kind", ["BatchDecode", "BatchPrefill"])
def test_aliases(kind):
    cls = getattr(fi, f"{kind}WithPagedKVCacheWrapper")
    assert cls.begin_forward is cls.plan
    assert callable(cls.run_return_lse)


def test_absent_names_say_why():
    from quire.flashinfer._absent import REASONS

    for name, reason in REASONS.items():
        assert not hasattr(fi, name)
        with pytest.raises(AttributeError, match=f"no attribute '{name}'") as caught:
            getattr(fi, name)
        assert str(caught.value).endswith(reason)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'$"):
        fi.nothing  # noqa: B018
