// Walking over a row of the vocabulary.
#pragma once

#include "tile/vec.h"

namespace quire::kernels {

// Calls visit(index, value) for elements [begin, end) of `row`, shared among `num_readers` threads
// of which this is number `reader`; begin and end are multiples of vec_elems. Several loads are in
// flight at a time, because the visitors are cheap and a block has a multiprocessor to itself.
template <int vec_elems, class T, class Visit>
inline void for_each_element(const T* row, i32 begin, i32 end, int reader, int num_readers,
                             Visit&& visit) {
  constexpr int kLoads = 4;
  const int step = num_readers * vec_elems;
  for (i32 first = begin + reader * vec_elems; first < end; first += kLoads * step) {
    float x[kLoads][vec_elems];
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      const i32 at = first + load * step;
      if (at < end) tile::load<vec_elems>(x[load], row + at);
    }
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      const i32 at = first + load * step;
      if (at >= end) break;
#pragma unroll
      for (int i = 0; i < vec_elems; ++i) visit(at + i, x[load][i]);
    }
  }
}

}  // namespace quire::kernels
