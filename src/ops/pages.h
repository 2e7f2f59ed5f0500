// Strided copies, by the kernel that copies pages.
#pragma once

#include "core/check.h"

namespace quire {

// to[i] = from[i] for tensors of one shape and dtype, rank 2 or more, last dimensions contiguous;
// dimensions of `from` may repeat (stride 0). Checks nothing.
void copy_entries(const check::Arg& from, const check::Arg& to, Stream stream);

}  // namespace quire
