// NVFP4 key-value caches: to four bits an element, and back.
#pragma once

#include "quire/fp8_scale.h"
#include "quire/paged_kv.h"
#include "quire/tensor.h"

namespace quire {

// An element is a code of e2m1 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives), two a byte, the
// even one in the low half; 16 neighbours share a block scale in e4m3, all of a tensor a global
// scale (NVIDIA's NVFP4, the linear layout of block scales):
//   value = code * block scale * global scale
// data u8 [..., head_dim / 2], block_scales f8e4m3 or u8 with its bits [..., head_dim / 16];
// head_dim is a multiple of 16. global_scale is a finite number above 0, or an f32 tensor of one
// element on the device of the data, which a captured graph reads anew.

// out [rows, head_dim] f32/f16/bf16 from data [rows, head_dim / 2] and block_scales [rows, head_dim
// / 16]. Any row strides, last dimensions contiguous.
void nvfp4_kv_dequantize(const TensorView& data, const TensorView& block_scales,
                         const Fp8Scale& global_scale, const TensorView& out, Stream stream = {});

// The other way, input f32/f16/bf16: block scale = largest magnitude / (6 * global scale), code =
// element / (block scale * global scale), each rounded to nearest even and at most its format's
// largest number. A block whose scale rounds to 0 becomes zeros; NaN becomes the largest code.
void nvfp4_kv_quantize(const TensorView& input, const Fp8Scale& global_scale,
                       const TensorView& data, const TensorView& block_scales, Stream stream = {});

// out[r, t] = token t of request r, for t < seq_lens[r]; other tokens are not written. data and
// block_scales: a paged cache of `layout`, [num_pages, page_size, num_kv_heads, ...] or [num_pages,
// num_kv_heads, page_size, ...], any strides with contiguous last dimensions. block_tables i32 or
// i64 [batch, max_pages]: page ids; seq_lens i32 [batch], contiguous; out [batch, max_seq_len,
// num_kv_heads, head_dim] f32/f16/bf16. A length beyond max_seq_len or the block table and a page
// id outside the cache are errors on the CPU; on CUDA such tokens are not written.
void nvfp4_kv_dequantize_paged(const TensorView& data, const TensorView& block_scales,
                               KvLayout layout, const TensorView& block_tables,
                               const TensorView& seq_lens, const Fp8Scale& global_scale,
                               const TensorView& out, Stream stream = {});

}  // namespace quire
