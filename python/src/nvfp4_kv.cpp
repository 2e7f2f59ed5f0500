#include "quire/nvfp4_kv.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using MaybeTensor = std::optional<TensorView>;

void dequantize(Tensor data, Tensor block_scales, MaybeTensor scale, double number, Tensor out,
                std::int64_t stream) {
  nvfp4_kv_dequantize(data, block_scales, to_fp8_scale(scale, number, false), out,
                      to_stream(stream));
}

void quantize(Tensor input, MaybeTensor scale, double number, Tensor data, Tensor block_scales,
              std::int64_t stream) {
  nvfp4_kv_quantize(input, to_fp8_scale(scale, number, false), data, block_scales,
                    to_stream(stream));
}

void dequantize_paged(Tensor data, Tensor block_scales, bool hnd, Tensor block_tables,
                      Tensor seq_lens, MaybeTensor scale, double number, Tensor out,
                      std::int64_t stream) {
  nvfp4_kv_dequantize_paged(data, block_scales, hnd ? KvLayout::hnd : KvLayout::nhd, block_tables,
                            seq_lens, to_fp8_scale(scale, number, false), out, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(nvfp4_kv_dequantize, translated(dequantize));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(nvfp4_kv_quantize, translated(quantize));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(nvfp4_kv_dequantize_paged, translated(dequantize_paged));

}  // namespace quire::python
