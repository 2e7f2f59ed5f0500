// Turns a custom variant of attention into headers of the kernel.
#pragma once

#include "jit/kernel_spec.h"
#include "quire/attention_variant.h"

namespace quire::cuda {

// Puts the variant's arguments and snippet before the header of `spec`, which then finds them as
// VariantSource<VariantKind::custom>, and its name into the kernel's.
void add_variant(jit::KernelSpec& spec, const AttentionVariant& variant);

}  // namespace quire::cuda
