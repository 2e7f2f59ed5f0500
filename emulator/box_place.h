// A box of a tensor and where in shared memory it goes to or comes from.
#pragma once

#include <cstddef>

#include "emulator/hooks.h"
#include "emulator/tensor_map.h"

namespace quire::emulator {

struct BoxPlace {
  TensorMapInfo map;
  u8* shared = nullptr;
  int coordinates[TensorMapInfo::kMaxRank] = {};
  Site site{};

  // Faults, named after `what`, when the copy engine could not do it.
  static BoxPlace checked(const char* what, void* shared, const u64* map, const int* coordinates,
                          int rank, Site site);

  int rows() const { return map.box_rows(); }
  int row_bytes() const { return map.inner_bytes(); }
  // The part of a row that lies in the tensor: `skipped_bytes` from the row's begin on; null: none.
  u8* tensor_row(int row, int& skipped_bytes, int& bytes) const;
  // Where in shared memory byte `byte` of a row is.
  std::size_t shared_offset(int row, int byte) const;

 private:
  void check_engine(const char* what) const;
  void check_shared(const char* what) const;
  void check_tensor(const char* what) const;
};

}  // namespace quire::emulator
