"""Quire: kernels for LLM inference serving on CPU and CUDA, for tensors of any DLPack library.

The names, shapes and meanings are those of the C++ API. Operators run on the device of their
tensors, on the current stream of the tensors' library unless ``stream`` (a CUstream handle) is
given, and return arrays of the library that the first input belongs to. Errors are ValueError,
TypeError, NotImplementedError, MemoryError and RuntimeError; a failed call changes nothing.
:mod:`quire.flashinfer` has the same operators under FlashInfer's names.
"""

from ._install import install_as_flashinfer
from ._library import library as _library
from .activation import (
    gelu_and_mul,
    gelu_and_mul_quant,
    gelu_tanh_and_mul,
    gelu_tanh_and_mul_quant,
    silu_and_mul,
    silu_and_mul_quant,
)
from .append import (
    append_paged_kv,
    append_paged_mla,
    get_batch_indices_positions,
    get_seq_lens,
)
from .attention import BatchAttention
from .attention_variant import AttentionVariant
from .cascade import CascadeLevel, find_cascade
from .concat import concat_mla_k
from .embedding import gather_rows
from .gemm import gemm
from .kv_pool import KvPool, KvPoolStats, PageCopy, PageTable
from .logits_processors import apply_logits_processors, sample_processed
from .merge import merge_state, merge_state_in_place, merge_states
from .norm import (
    fused_add_rms_norm,
    fused_add_rms_norm_quant,
    layer_norm,
    layer_norm_quant,
    rms_norm,
    rms_norm_quant,
)
from .nvfp4_kv import nvfp4_kv_dequantize, nvfp4_kv_dequantize_paged, nvfp4_kv_quantize
from .pages import copy_pages, gather_pages, scatter_pages
from .quantize import dequantize_fp8, packbits, quantize_fp8, segment_packbits
from .rope import (
    Llama31Rope,
    YarnRope,
    apply_rope,
    apply_rope_pos_ids,
    rope_append_paged_kv,
    rope_quantize_fp8,
)
from .sampling import (
    argmax,
    filtered_sample,
    min_p_sample,
    renorm_probs,
    sample,
    sample_from_logits,
    softmax,
    token_log_probs,
    top_k_mask_logits,
    top_k_sample,
    top_k_top_p_sample,
    top_p_sample,
)
from .speculative import chain_speculative_sampling, verify_tree
from .topk import top_k, top_k_page_table_transform, top_k_ragged_transform

__version__: str = _library.version()


def num_cuda_devices() -> int:
    """Number of CUDA devices; 0 when there is no driver."""
    return _library.num_cuda_devices()


__all__ = [
    "AttentionVariant",
    "BatchAttention",
    "CascadeLevel",
    "KvPool",
    "KvPoolStats",
    "Llama31Rope",
    "PageCopy",
    "PageTable",
    "YarnRope",
    "append_paged_kv",
    "append_paged_mla",
    "apply_logits_processors",
    "apply_rope",
    "apply_rope_pos_ids",
    "argmax",
    "chain_speculative_sampling",
    "concat_mla_k",
    "copy_pages",
    "dequantize_fp8",
    "filtered_sample",
    "find_cascade",
    "fused_add_rms_norm",
    "fused_add_rms_norm_quant",
    "gather_pages",
    "gather_rows",
    "gelu_and_mul",
    "gelu_and_mul_quant",
    "gelu_tanh_and_mul",
    "gelu_tanh_and_mul_quant",
    "gemm",
    "get_batch_indices_positions",
    "get_seq_lens",
    "install_as_flashinfer",
    "layer_norm",
    "layer_norm_quant",
    "merge_state",
    "merge_state_in_place",
    "merge_states",
    "min_p_sample",
    "num_cuda_devices",
    "nvfp4_kv_dequantize",
    "nvfp4_kv_dequantize_paged",
    "nvfp4_kv_quantize",
    "packbits",
    "quantize_fp8",
    "renorm_probs",
    "rms_norm",
    "rms_norm_quant",
    "rope_append_paged_kv",
    "rope_quantize_fp8",
    "sample",
    "sample_from_logits",
    "sample_processed",
    "scatter_pages",
    "segment_packbits",
    "silu_and_mul",
    "silu_and_mul_quant",
    "softmax",
    "token_log_probs",
    "top_k",
    "top_k_mask_logits",
    "top_k_page_table_transform",
    "top_k_ragged_transform",
    "top_k_sample",
    "top_k_top_p_sample",
    "top_p_sample",
    "verify_tree",
]
