// CPU backend of copies of whole pages.
#pragma once

#include "pages/pages_types.h"

namespace quire::cpu {

void copy_pages(const kernels::PageCopyConfig& config, const kernels::PageCopyParams& params);

}  // namespace quire::cpu
