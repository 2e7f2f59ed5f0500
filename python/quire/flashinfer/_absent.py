"""Names that FlashInfer has and this package has not, and why. They stay absent, so that engines
that look for a name before they use it see the truth."""

_NVFP4_APPEND = "nvfp4_kv_quantize the rows, then append codes and scales by slot mapping"
_MATRIX_LAYOUT = "block scales in the layouts of matrix products are not read or written"
_DIFFUSION = "diffusion models are out of scope"

REASONS = {
    "nvfp4_quantize_append_paged_kv_cache": _NVFP4_APPEND,
    "nvfp4_quantize_append_paged_kv_cache_with_slot_mapping": _NVFP4_APPEND,
    "fused_rmsnorm_silu": "use rmsnorm, then the activation of the array library",
    "fp4_quantize": _MATRIX_LAYOUT,
    "e2m1_and_ufp8sf_scale_to_float": _MATRIX_LAYOUT,
    "block_scale_interleave": _MATRIX_LAYOUT,
    "mxfp4_dequantize": _MATRIX_LAYOUT,
    "mxfp8_dequantize_host": _MATRIX_LAYOUT,
    "fused_qk_rmsnorm_rope": _DIFFUSION,
    "fused_dit_residual_layernorm_scale_shift": _DIFFUSION,
    "fused_dit_gate_residual_layernorm_scale_shift": _DIFFUSION,
    "fused_dit_gate_residual_layernorm_gamma_beta": _DIFFUSION,
}
