"""What FlashInfer's paged and ragged prefill wrappers share."""

from __future__ import annotations

from typing import Dict, Optional

import numpy as np

from .._arrays import Array
from ._wrapper import AttentionWrapper


class PrefillWrapper(AttentionWrapper):
    """Buffers for CUDA graphs and custom masks."""

    def _init_buffers(
        self,
        required: Dict[str, Optional[Array]],
        custom_mask_buf: Optional[Array],
        mask_indptr_buf: Optional[Array],
    ) -> None:
        self._fixed_batch_size = 0
        self._max_total_num_rows: Optional[int] = None
        if self._use_cuda_graph:
            for name, buffer in required.items():
                if buffer is None:
                    raise ValueError(
                        f"{self._op}: {name}: got None, expected a tensor: use_cuda_graph is set"
                    )
            self._fixed_batch_size = len(required["qo_indptr_buf"]) - 1
        self._custom_mask_buf = custom_mask_buf
        self._mask_indptr_buf = mask_indptr_buf

    def _check_graph_rows(self, qo_indptr: np.ndarray) -> None:
        """The first plan for a CUDA graph fixes how many query rows later ones may have."""
        self._check_graph_batch(len(qo_indptr) - 1, self._fixed_batch_size)
        limit = self._max_total_num_rows
        if self._use_cuda_graph and limit is not None and qo_indptr[-1] > limit:
            raise ValueError(
                f"{self._op}: qo_indptr: got {qo_indptr[-1]} rows, expected at most {limit}, those "
                "of the first plan for CUDA graphs"
            )

    def _check_mask(self, mask: Optional[Array], mask_indptr: Optional[Array]) -> None:
        if mask is not None and self._use_cuda_graph:
            self._check_fits("custom_mask", mask, self._custom_mask_buf)
            self._check_fits("mask_indptr", mask_indptr, self._mask_indptr_buf)

    def _keep_mask(self, mask: Optional[Array], mask_indptr: Optional[Array]) -> None:
        """Takes over the mask of a plan; for CUDA graphs by copying it into the given buffers."""
        if not self._use_cuda_graph:
            self._custom_mask_buf, self._mask_indptr_buf = mask, mask_indptr
        elif mask is not None:
            mask = self._static_copy("custom_mask", mask, self._custom_mask_buf)
            mask_indptr = self._static_copy("mask_indptr", mask_indptr, self._mask_indptr_buf)
        self._custom_mask, self._mask_indptr = mask, mask_indptr
