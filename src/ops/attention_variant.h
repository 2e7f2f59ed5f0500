// Checking custom variants of attention and the values of their arguments.
#pragma once

#include "attention/attention_types.h"
#include "core/check.h"
#include "quire/attention.h"

namespace quire {

// For plan(): names, dtypes and numbers of arguments. not_implemented on the CPU.
void check_variant(const AttentionVariant& variant, Device device);

// For plan(): `got` must be the variant that is reserved; null: none.
void check_same_variant(const AttentionVariant* got, const AttentionVariant* expected);

// For run(): what a variant, or none (null), does not go with, and the values of its arguments.
void check_variant_values(const AttentionVariant* variant, const AttentionOptions& options,
                          bool with_lse, const check::Arg& like);

// The values as the kernel wants them; they have been checked.
kernels::VariantValues variant_values(const AttentionVariant& variant,
                                      const AttentionOptions& options);

}  // namespace quire
