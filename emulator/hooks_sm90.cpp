// The hooks of the sm_90 primitives.
#include <fmt/format.h>

#include <cstdint>

#include "emulator/block.h"
#include "emulator/hooks.h"
#include "emulator/sanitizers.h"

namespace quire::emulator {

void require_sm90(const char* what, Site site) { Block::instance().require_arch(90, what, site); }

void sync_cluster(Site site) {
  require_sm90("cluster::sync", site);
  Block::instance().sync_cluster(site);
}
u8* shared_of_block(const void* shared, int rank, Site site) {
  Block& block = Block::instance();
  require_sm90("cluster::shared_of", site);
  check_shared(shared, 1, "cluster::shared_of", site);
  if (rank < 0 || rank >= block.cluster_blocks()) {
    block.fault(fmt::format("cluster::shared_of at {}:{}: block {} of a cluster of {}", site.file,
                            site.line, rank, block.cluster_blocks()));
  }
  return block.shared_memory_of(rank) + block.offset_of(shared);
}

void note_shared_write(const void* address) {
  Block& block = Block::instance();
  block.proxy_marks().written(block.offset_of(address), block.current().position.thread);
}
void fence_async_proxy() {
  Block& block = Block::instance();
  block.current().proxy_fence = block.proxy_marks().fence();
}

u64 mbarrier_init(const void* word, int arrivals, Site site) {
  check_shared(word, 8, "Mbarrier::init", site);
  require_sm90("Mbarrier::init", site);
  if (Block::instance().cluster_blocks() > 1) {
    Block::instance().fault("Mbarrier::init: barriers in clusters are not emulated");
  }
  return Block::instance().mbarriers().init(word, arrivals, site);
}
void mbarrier_fence_init() {
  Block& block = Block::instance();
  block.mbarriers().fence_init(block.current().position.thread);
}
void mbarrier_arrive(const u64* word, u64 value, int bytes, Site site) {
  Mbarriers& barriers = Block::instance().mbarriers();
  barriers.arrive(barriers.find(word, value, "Mbarrier::arrive", site), bytes, site);
}
void mbarrier_arrive_after_copies(const u64* word, u64 value, Site site) {
  Block& block = Block::instance();
  MbarrierState& full = block.mbarriers().find(word, value, "Mbarrier::arrive_after_copies", site);
  block.copy_engine().queue_chunks(block.current(), full, site);
}
bool mbarrier_test(const u64* word, u64 value, u32 parity, Site site) {
  Mbarriers& barriers = Block::instance().mbarriers();
  return barriers.test(barriers.find(word, value, "Mbarrier::test", site), parity, site);
}
void mbarrier_wait(const u64* word, u64 value, u32 parity, Site site) {
  Mbarriers& barriers = Block::instance().mbarriers();
  barriers.wait(barriers.find(word, value, "Mbarrier::wait", site), parity, site);
}

Box start_box(void* dst, const u64* map, const int* coordinates, int rank, const u64* word,
              u64 value, Site site) {
  Block& block = Block::instance();
  require_sm90("tma::load", site);
  MbarrierState& full = block.mbarriers().find(word, value, "tma::load", site);
  return block.copy_engine().start(dst, map, coordinates, rank, full, site);
}
const u8* box_row(int row, int& bytes) {
  return Block::instance().copy_engine().row_source(row, bytes);
}
void queue_box() { Block::instance().copy_engine().queue(); }
void issue_store(const void* src, const u64* map, const int* coordinates, int rank, Site site) {
  require_sm90("tma::store", site);
  Block::instance().current().stores.push(
      BoxPlace::checked("tma::store", const_cast<void*>(src), map, coordinates, rank, site));
}
void commit_stores() { Block::instance().current().stores.commit(); }
bool take_store_piece(StorePiece& piece, Site site) {
  Block& block = Block::instance();
  Lane& lane = block.current();
  if (!lane.stores.take(piece)) return false;
  if (!block.is_fenced(block.offset_of(piece.src), lane.proxy_fence)) {
    fail("tma::store reads shared memory that was written with no fence_async_proxy() after", site);
  }
  return true;
}
void check_tensor_map(const u64* map, Site site) {
  if (!decode_tensor_map(map)) fail("tma::prefetch_map: no tensor map", site);
}

void named_barrier(Collective what, int id, int threads, Site site) {
  Block::instance().named_barriers().come(what, id, threads, site);
}
void meet_warpgroup(Collective what, Site site) {
  require_sm90("register moves between warpgroups", site);
  Block::instance().meet_warpgroup(what, site, nullptr, nullptr);
}

u32 shared_address(const void* shared) {
  return kSharedBase + static_cast<u32>(Block::instance().offset_of(shared));
}

void issue_product(const Product& product, Site site) {
  Block& block = Block::instance();
  require_sm90("wgmma", site);
  ProductQueue& queue = block.current().products;
  if (const char* problem = queue.problem(product)) fail(problem, site);
  queue.issue(product, block.current().proxy_fence, site);
}
void fence_products(Site site) {
  require_sm90("wgmma::fence", site);
  Block::instance().current().products.fence();
}
void commit_products(Site site) { Block::instance().current().products.commit(site); }

void wait_for_products(int pending, Site site) {
  struct Argument {
    int pending;
    Site site;
  } argument{pending, site};
  Block& block = Block::instance();
  Warpgroup& group = block.warpgroup(Collective::wgmma_wait, site);
  const Lane& lane = block.current();
  const auto warp = static_cast<std::size_t>(lane.position.thread / kWarpLanes % 4);
  // Shared memory is read for the warp by its lane 0 (next_product_read): its lanes are behind
  // that.
  void* order = &group.read_order[group.meeting.round % 2][warp];
  if (lane.position.thread % kWarpLanes == 0) release(order);
  block.meet_warpgroup(
      Collective::wgmma_wait, site,
      [](Warpgroup& of, int first_thread, void* a) {
        const auto* wait = static_cast<const Argument*>(a);
        of.products.run(first_thread, wait->pending, wait->site);
      },
      &argument);
  acquire(order);
  ProductQueue& queue = block.current().products;
  queue.finish(queue.num_covered(pending));
}

const u64* next_product_read(int pending) {
  Block& block = Block::instance();
  ProductQueue& queue = block.current().products;
  const int warp = block.current().position.thread / kWarpLanes % 4;
  std::size_t offset;
  if (!queue.next_read(pending, warp, offset)) return nullptr;
  if (offset + 16 > block.smem_bytes()) return nullptr;  // reported by the wait
  return reinterpret_cast<const u64*>(block.shared_memory() + offset);
}

void fail(const char* text, Site site) {
  Block::instance().fault(fmt::format("{}:{}: {}", site.file, site.line, text));
}

}  // namespace quire::emulator
