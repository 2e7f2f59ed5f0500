#include "emulator/hooks.h"

#include <fmt/format.h>

#include <cstdint>

#include "emulator/block.h"

namespace quire::emulator {
namespace {

bool is_shared(const void* address, int bytes) {
  Block& block = Block::instance();
  const auto begin = reinterpret_cast<std::uintptr_t>(block.shared_memory());
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  return first >= begin && first + static_cast<unsigned>(bytes) <= begin + block.smem_bytes();
}

void check_aligned(const void* address, int bytes, const char* what, Site site) {
  if (reinterpret_cast<std::uintptr_t>(address) % static_cast<unsigned>(bytes) == 0) return;
  Block::instance().fault(fmt::format("{} at {}:{}: address {} is not aligned to {} bytes", what,
                                      site.file, site.line, address, bytes));
}

}  // namespace

const Position& position() { return Block::instance().current().position; }

u8* shared_memory() { return Block::instance().shared_memory(); }

void check_shared(const void* address, int bytes, const char* what, Site site) {
  Block& block = Block::instance();
  check_aligned(address, bytes, what, site);
  if (is_shared(address, bytes)) return;
  const auto offset = reinterpret_cast<std::intptr_t>(address) -
                      reinterpret_cast<std::intptr_t>(block.shared_memory());
  block.fault(
      fmt::format("{} at {}:{}: outside the block's {} bytes of shared memory, at offset {}", what,
                  site.file, site.line, block.smem_bytes(), offset));
}

void check_global(const void* address, int bytes, const char* what, Site site) {
  check_aligned(address, bytes, what, site);
  if (!is_shared(address, bytes)) return;
  Block::instance().fault(
      fmt::format("{} at {}:{}: address {} is shared memory", what, site.file, site.line, address));
}

void sync_block(Site site) { Block::instance().sync_block(site); }
void sync_warp(Site site) { Block::instance().sync_warp(site); }

const Deposit* exchange(Collective what, const Deposit& mine, Site site) {
  return Block::instance().exchange(what, mine, site);
}

void queue_copy(const PendingCopy& copy) { Block::instance().current().copies.push(copy); }
void commit_copies() { Block::instance().current().copies.commit(); }
bool take_copy(int pending, PendingCopy& copy) {
  if (!Block::instance().current().copies.take(pending, copy)) return false;
  note_shared_write(copy.dst);  // which the caller does at once
  return true;
}

}  // namespace quire::emulator
