"""Quire: kernels for LLM inference serving on CPU and CUDA, for tensors of any DLPack library.

The names, shapes and meanings are those of the C++ API. Operators run on the device of their
tensors, on the current stream of the tensors' library unless ``stream`` (a CUstream handle) is
given, and return arrays of the library that the first input belongs to. Errors are ValueError,
TypeError, NotImplementedError, MemoryError and RuntimeError; a failed call changes nothing.
:mod:`quire.flashinfer` has the same operators under FlashInfer's names.
"""

from ._install import install_as_flashinfer
from ._library import library as _library
from .activation import silu_and_mul
from .append import append_paged_kv, get_batch_indices_positions, get_seq_lens
from .attention import BatchAttention
from .attention_variant import AttentionVariant
from .embedding import gather_rows
from .gemm import gemm
from .kv_pool import KvPool, KvPoolStats, PageCopy, PageTable
from .logits_processors import apply_logits_processors
from .merge import merge_state, merge_state_in_place, merge_states
from .norm import fused_add_rms_norm, rms_norm
from .rope import Llama31Rope, apply_rope_pos_ids
from .sampling import (
    argmax,
    filtered_sample,
    min_p_sample,
    renorm_probs,
    sample,
    sample_from_logits,
    softmax,
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
    "KvPool",
    "KvPoolStats",
    "Llama31Rope",
    "PageCopy",
    "PageTable",
    "append_paged_kv",
    "apply_logits_processors",
    "apply_rope_pos_ids",
    "argmax",
    "chain_speculative_sampling",
    "filtered_sample",
    "fused_add_rms_norm",
    "gather_rows",
    "gemm",
    "get_batch_indices_positions",
    "get_seq_lens",
    "install_as_flashinfer",
    "merge_state",
    "merge_state_in_place",
    "merge_states",
    "min_p_sample",
    "num_cuda_devices",
    "renorm_probs",
    "rms_norm",
    "sample",
    "sample_from_logits",
    "silu_and_mul",
    "softmax",
    "top_k",
    "top_k_mask_logits",
    "top_k_page_table_transform",
    "top_k_ragged_transform",
    "top_k_sample",
    "top_k_top_p_sample",
    "top_p_sample",
    "verify_tree",
]
