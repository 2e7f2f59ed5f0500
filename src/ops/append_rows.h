// Where the rows of an append go: checks, and the look-up that kernels get. Shared by the operators
// that write to pages.
#pragma once

#include <string>

#include "append/append_types.h"
#include "core/check.h"
#include "quire/append.h"

namespace quire {

// Of an i32 vector on the host.
std::int32_t host_value(const TensorView& tensor, std::int64_t i);
[[noreturn]] void fail_at(const check::Arg& arg, std::int64_t i, const std::string& expected);

void check_index_vector(const check::Arg& arg, const check::Arg& like, bool is_output = false);
// An indptr has one entry more than there are requests, so at least one.
std::int64_t batch_of_indptr(const check::Arg& arg);
void check_host_indptr(const check::Arg& arg);
void check_host_last_page_len(const check::Arg& indptr, const check::Arg& last_page_len,
                              std::int64_t page_size);

// The pool that rows go to, by its tensor for error texts.
struct PoolSize {
  check::Arg pool;
  std::int64_t num_pages, page_size;
};

// Shapes, dtypes, devices of the index arrays; on the CPU their values too. `data`: the rows, [nnz,
// ..]. Nothing but checks.
kernels::SlotLookup check_append_rows(const AppendRows& rows, const check::Arg& data,
                                      const PoolSize& pool);

// With QUIRE_CHECKED: waits for the device and throws for a row that leads outside the table.
void check_device_slots(std::string_view op, const kernels::SlotLookup& slots, Device device,
                        Stream stream);

}  // namespace quire
