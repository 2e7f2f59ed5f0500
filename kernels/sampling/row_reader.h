// Walking over a row of the vocabulary in global memory.
#pragma once

#include "tile/vec.h"

namespace quire::kernels {

// Calls visit(index, values) for each access of vec_elems elements in [begin, end) of `row`, shared
// among `num_readers` threads of which this is number `reader`; begin and end are multiples of
// vec_elems. `kLoads` are in flight at a time: several where the visitors are cheap.
template <int vec_elems, int kLoads = 4, class T, class Visit>
inline void for_each_access(const T* row, i32 begin, i32 end, int reader, int num_readers,
                            Visit&& visit) {
  const int step = num_readers * vec_elems;
  for (i32 first = begin + reader * vec_elems; first < end; first += kLoads * step) {
    tile::Vec<T, vec_elems> x[kLoads];
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      const i32 at = first + load * step;
      if (at < end) x[load] = *reinterpret_cast<const tile::Vec<T, vec_elems>*>(row + at);
    }
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      const i32 at = first + load * step;
      if (at >= end) break;
      float values[vec_elems];
#pragma unroll
      for (int i = 0; i < vec_elems; ++i) values[i] = tile::to_float(x[load].data[i]);
      visit(at, values);
    }
  }
}

// The same element by element: visit(index, value).
template <int vec_elems, int kLoads = 4, class T, class Visit>
inline void for_each_element(const T* row, i32 begin, i32 end, int reader, int num_readers,
                             Visit&& visit) {
  for_each_access<vec_elems, kLoads>(row, begin, end, reader, num_readers,
                                     [&](i32 at, const float(&values)[vec_elems]) {
#pragma unroll
                                       for (int i = 0; i < vec_elems; ++i) visit(at + i, values[i]);
                                     });
}

}  // namespace quire::kernels
