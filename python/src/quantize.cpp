#include "quire/quantize.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using MaybeTensor = std::optional<TensorView>;

void quantize(Tensor input, Tensor out, MaybeTensor scale, double number, bool computed,
              bool power_of_two, int block_rows, int block_cols, std::int64_t stream) {
  quantize_fp8(input, out, to_fp8_scale(scale, number, computed, power_of_two),
               {block_rows, block_cols}, to_stream(stream));
}

void dequantize(Tensor input, Tensor out, MaybeTensor scale, double number, int block_rows,
                int block_cols, std::int64_t stream) {
  dequantize_fp8(input, out, to_fp8_scale(scale, number, false), {block_rows, block_cols},
                 to_stream(stream));
}

BitOrder to_order(bool big) { return big ? BitOrder::big : BitOrder::little; }

void pack(Tensor x, Tensor out, bool big, std::int64_t stream) {
  packbits(x, out, to_order(big), to_stream(stream));
}

void pack_segments(Tensor x, Tensor indptr, Tensor out_indptr, Tensor out, bool big,
                   std::int64_t stream) {
  segment_packbits(x, indptr, out_indptr, out, to_order(big), to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(quantize_fp8, translated(quantize));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(dequantize_fp8, translated(dequantize));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(packbits, translated(pack));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(segment_packbits, translated(pack_segments));

}  // namespace quire::python
