"""FlashInfer's ``flashinfer.prefill``: many query rows a request, over paged or ragged KV."""

from ._prefill_paged import BatchPrefillWithPagedKVCacheWrapper
from ._prefill_ragged import BatchPrefillWithRaggedKVCacheWrapper
from ._single_request import (
    single_prefill_with_kv_cache,
    single_prefill_with_kv_cache_return_lse,
)

__all__ = [
    "BatchPrefillWithPagedKVCacheWrapper",
    "BatchPrefillWithRaggedKVCacheWrapper",
    "single_prefill_with_kv_cache",
    "single_prefill_with_kv_cache_return_lse",
]
