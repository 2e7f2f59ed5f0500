#include "emulator/copy_engine.h"

#include <fmt/format.h>

#include "emulator/block.h"
#include "emulator/sanitizers.h"

namespace quire::emulator {
namespace {

constexpr int kChunkBytes = 16;

}  // namespace

CopyEngine::Pending& CopyEngine::next_free() {
  drop_landed();
  if (count_ == kMaxPending) {
    Block::instance().fault("more copies under way than the emulator has room for");
  }
  Pending& pending = at(count_);
  pending.landed = false;
  pending.lane = nullptr;
  return pending;
}

Box CopyEngine::start(void* dst, const u64* map, const int* coordinates, int rank,
                      MbarrierState& full, Site site) {
  Pending& pending = next_free();
  if (!full.fenced) {
    Block::instance().fault(
        fmt::format("tma::load at {}:{}: no fence_mbarrier_init() after the barrier's init",
                    site.file, site.line));
  }
  pending.box = BoxPlace::checked("tma::load", dst, map, coordinates, rank, site);
  pending.barrier = &full;
  pending.site = site;
  const int rows = pending.box.rows();
  return {pending.box.shared, pending.box.row_bytes() * rows, rows};
}

const u8* CopyEngine::row_source(int row, int& bytes) const {
  int skipped_bytes;
  return pending_[(first_ + count_) % kMaxPending].box.tensor_row(row, skipped_bytes, bytes);
}

void CopyEngine::queue() {
  // Who waits for the barrier is behind what the thread did to the destination before.
  MbarrierState& full = *at(count_).barrier;
  release(&full.memory_order[full.phase % 2]);
  ++count_;
}

void CopyEngine::queue_chunks(Lane& lane, MbarrierState& full, Site site) {
  Pending& pending = next_free();
  pending.lane = &lane;
  pending.num_chunks = lane.copies.num_pushed();
  pending.barrier = &full;
  pending.site = site;
  queue();
}

void CopyEngine::copy_box(const BoxPlace& box) {
  Block& block = Block::instance();
  for (int row = 0; row < box.rows(); ++row) {
    int skipped_bytes, bytes;
    const u8* src = box.tensor_row(row, skipped_bytes, bytes);
    for (int i = 0; i < box.row_bytes(); ++i) {
      const bool inside = i >= skipped_bytes && i < skipped_bytes + bytes;
      const std::size_t offset = box.shared_offset(row, i);
      block.shared_memory()[offset] = inside ? src[i - skipped_bytes] : u8{0};
      if (i % kChunkBytes == 0) block.proxy_marks().written_by_engine(offset);
    }
  }
}

void CopyEngine::copy_chunks(Lane& lane, std::size_t num_chunks) {
  Block& block = Block::instance();
  PendingCopy copy;
  while (lane.copies.take_of_first(num_chunks, copy)) {
    auto* dst = static_cast<u64*>(copy.dst);
    const auto* src = static_cast<const u64*>(copy.src);
    for (int i = 0; i < 2; ++i) dst[i] = src != nullptr ? src[i] : 0;
    block.proxy_marks().written(block.offset_of(copy.dst), lane.position.thread);
  }
}

void CopyEngine::execute(Pending& pending) {
  pending.landed = true;
  if (pending.lane != nullptr) {
    copy_chunks(*pending.lane, pending.num_chunks);
    Block::instance().mbarriers().count_arrival(*pending.barrier, pending.site);
    return;
  }
  copy_box(pending.box);
  Block::instance().mbarriers().bytes_came(*pending.barrier,
                                           pending.box.row_bytes() * pending.box.rows());
}

void CopyEngine::drop_landed() {
  while (count_ > 0 && at(0).landed) {
    first_ = (first_ + 1) % kMaxPending;
    --count_;
  }
}

bool CopyEngine::land() {
  drop_landed();
  if (count_ == 0) return false;
  execute(at(0));
  return true;
}

void CopyEngine::land_for(const MbarrierState& barrier) {
  for (std::size_t i = 0; i < count_; ++i) {
    Pending& pending = at(i);
    if (pending.landed || pending.barrier != &barrier) continue;
    execute(pending);
    return;
  }
}

std::string CopyEngine::describe_pending() const {
  for (std::size_t i = 0; i < count_; ++i) {
    const Pending& pending = pending_[(first_ + i) % kMaxPending];
    if (pending.landed) continue;
    return fmt::format("the copy of {} at {}:{} is under way and nobody waited for it",
                       pending.lane != nullptr ? "Mbarrier::arrive_after_copies" : "tma::load",
                       pending.site.file, pending.site.line);
  }
  return {};
}

}  // namespace quire::emulator
