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
  int block, block_y, num_blocks, num_blocks_y;
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

enum class Collective {
  sync_block,
  sync_cluster,
  sync_warp,
  shuffle,
  vote,
  ldmatrix,
  movmatrix,
  stmatrix,
  mma,
  named_barrier_sync,
  named_barrier_arrive,
  mbarrier_wait,
  mbarrier_test,
  wgmma_wait,
  release_registers,
  take_registers,
};
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

// sm_90 and up, from here.

// All threads of the cluster's blocks meet; orders memory.
void sync_cluster(Site site);
// Where the cluster's block number `rank` has what this block has at `shared`.
u8* shared_of_block(const void* shared, int rank, Site site);

// Fails the kernel on a device that has not got it.
void require_sm90(const char* what, Site site);

// Ordinary writes to shared memory of which the emulator hears (16 bytes each), and the fence that
// the asynchronous proxy needs after them.
void note_shared_write(const void* address);
void fence_async_proxy();

// Barriers in shared memory. The value of `word` names the barrier; init returns it. Reading and
// writing it is left to the caller, where a sanitizer sees it.
u64 mbarrier_init(const void* word, int arrivals, Site site);
void mbarrier_fence_init();
void mbarrier_arrive(const u64* word, u64 value, int bytes, Site site);
// The copies that this thread has queued land when somebody waits, and the thread arrives then.
void mbarrier_arrive_after_copies(const u64* word, u64 value, Site site);
bool mbarrier_test(const u64* word, u64 value, u32 parity, Site site);
void mbarrier_wait(const u64* word, u64 value, u32 parity, Site site);

// A copy of a box begins: checks it. Its bytes may be written from now on, and are when `queue_box`
// has been called and somebody waits.
struct Box {
  u8* dst;
  int bytes;
  int num_rows;
};
Box start_box(void* dst, const u64* map, const int* coordinates, int rank, const u64* word,
              u64 value, Site site);
// The part of a row of the box just started that lies in the tensor: where, and how many bytes.
const u8* box_row(int row, int& bytes);
void queue_box();
// A copy of a box to a tensor. The pieces of committed ones are the thread's to move, when it
// waits.
struct StorePiece {
  const u8* src;  // 16 bytes
  u8* dst;
  int first, bytes;  // of those
};
void issue_store(const void* src, const u64* map, const int* coordinates, int rank, Site site);
void commit_stores();
bool take_store_piece(StorePiece& piece, Site site);
void check_tensor_map(const u64* map, Site site);

void named_barrier(Collective what, int id, int threads, Site site);
// All threads of the warpgroup come.
void meet_warpgroup(Collective what, Site site);

// A product of a warpgroup: d[64, n] = a b (+ d). Operands as in kernels/tile/wgmma.h.
enum class Operand { bf16, f16, f8e4m3 };
struct Product {
  float* d;
  const u32* a;  // A in registers, or null
  u64 a_descriptor, b_descriptor;
  int n;
  Operand type;
  bool transpose_b, accumulate;
};
// Takes the accumulators, of which the thread then has no more than NaN until it has waited.
void issue_product(const Product& product, Site site);
void fence_products(Site site);
void commit_products(Site site);
void wait_for_products(int pending, Site site);
// Visits the shared memory that the products covered by such a wait read for this warp, 16 bytes at
// a time, for the sanitizer; null at the end.
const u64* next_product_read(int pending);
// What the kernel calls an address in shared memory: the first byte's is kSharedBase.
constexpr u32 kSharedBase = 1024;
u32 shared_address(const void* shared);
[[noreturn]] void fail(const char* text, Site site);

}  // namespace quire::emulator
