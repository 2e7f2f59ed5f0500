// What emulator/tile/ asks of the emulator; every function runs on the fiber of one GPU thread.
// No standard header: every emulated kernel includes this, and compile time counts.
#pragma once

#include "dtype.h"

namespace quire::emulator {

using namespace quire::kernels;

// Where in the source a collective was called. As a default argument it names the caller.
struct Site {
  const char* file;
  int line;
};
constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return {file, line};
}

struct Position {
  int thread, num_threads;
  int block, block_y, num_blocks;
};
[[gnu::const]] const Position& position();  // the same for the whole life of a fiber

// The block's dynamic shared memory: exactly as many bytes as the launch gave, NaN at first.
u8* shared_memory();
// Ends the kernel with an error unless [address, address + bytes) lies in it, aligned to `bytes`.
void check_shared(const void* address, int bytes, const char* what, Site site);
// The same for global memory, of which only "not shared" and the alignment can be checked here.
void check_global(const void* address, int bytes, const char* what, Site site);

// Threads meet: each waits for all others of its block or warp, which must call the same function
// in the same place. The barriers order memory, the other collectives do not.
void sync_block(Site site);
void sync_warp(Site site);

enum class Collective { sync_block, sync_warp, shuffle, vote, ldmatrix, mma };
struct Deposit {
  u32 words[10];
};
// All 32 lanes deposit something; returns the deposits of all, valid until the lane's next call.
const Deposit* exchange(Collective what, const Deposit& mine, Site site);
// d[16 x 8] += a[16 x 16] b[16 x 8] over the warp, fragments as in kernels/tile/mma.h.
void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, Site site);
void mma_f16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, Site site);

// The asynchronous copies of this thread. A copy lands when the thread takes it, not before.
struct PendingCopy {
  void* dst;
  const void* src;  // null: zeros
};
void queue_copy(const PendingCopy& copy);
void commit_copies();
// The next copy of the groups that are older than the latest `pending`; false when all have landed.
bool take_copy(int pending, PendingCopy& copy);

}  // namespace quire::emulator
