// CPU backend of the row gather.
#pragma once

#include "embedding/embedding_types.h"

namespace quire::cpu {

// Indices lie inside the table: the operator has checked them.
void gather_rows(const kernels::GatherRowsParams& params);

}  // namespace quire::cpu
