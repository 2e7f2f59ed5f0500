#include "quire/kv_pool.h"

#include <tvm/ffi/object.h>

#include <vector>

#include "conversion.h"

namespace quire::python {

namespace {

class KvPoolObject : public ffi::Object {
 public:
  KvPoolObject(int num_pages, int page_size) : pool(num_pages, page_size) {}

  KvPool pool;

  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("quire.KvPool", KvPoolObject, ffi::Object);
};

ffi::ObjectPtr<KvPoolObject> create(int num_pages, int page_size) {
  return ffi::make_object<KvPoolObject>(num_pages, page_size);
}

std::int64_t allocate_sequence(KvPoolObject* self, TensorView tokens) {
  return self->pool.allocate(host_ints("kv_pool.allocate", "tokens", tokens));
}

// Rows of (from_page, to_page, num_tokens).
std::vector<std::vector<std::int64_t>> append_tokens(KvPoolObject* self, std::int64_t id,
                                                     TensorView tokens) {
  std::vector<std::vector<std::int64_t>> rows;
  for (const PageCopy& copy :
       self->pool.append(id, host_ints("kv_pool.append", "tokens", tokens))) {
    rows.push_back({copy.from_page, copy.to_page, copy.num_tokens});
  }
  return rows;
}

std::int64_t fork(KvPoolObject* self, std::int64_t id) { return self->pool.fork(id); }

void release(KvPoolObject* self, std::int64_t id) { self->pool.free(id); }

void cache_prefix(KvPoolObject* self, std::int64_t id) { self->pool.cache_prefix(id); }

void clear_prefixes(KvPoolObject* self) { self->pool.clear_prefixes(); }

// (num_tokens, num_cached_tokens, last_page_len)
std::vector<std::int64_t> lengths(KvPoolObject* self, std::int64_t id) {
  return {self->pool.num_tokens(id), self->pool.num_cached_tokens(id),
          self->pool.last_page_len(id)};
}

ffi::Tensor pages(KvPoolObject* self, std::int64_t id) {
  return to_host_tensor(self->pool.pages(id));
}

// In the order of KvPoolStats.
std::vector<std::int64_t> stats(KvPoolObject* self) {
  const KvPoolStats s = self->pool.stats();
  return {s.num_pages,    s.pages_free,  s.pages_in_use,      s.pages_cached,
          s.pages_shared, s.pages_saved, s.prefix_hit_tokens, s.evictions};
}

ffi::Array<ffi::Tensor> table(KvPoolObject* self, std::vector<std::int64_t> ids) {
  const KvPool::Table table = self->pool.table(ids);
  return {to_host_tensor(table.indptr), to_host_tensor(table.indices),
          to_host_tensor(table.last_page_len)};
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_create, translated(create));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_allocate, translated(allocate_sequence));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_append, translated(append_tokens));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_fork, translated(fork));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_free, translated(release));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_cache_prefix, translated(cache_prefix));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_clear_prefixes, translated(clear_prefixes));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_lengths, translated(lengths));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_pages, translated(pages));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_stats, translated(stats));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(kv_pool_table, translated(table));

}  // namespace quire::python
