// Barriers in shared memory that threads and the copy engine arrive at (sm_90 and up). GPU side.
#pragma once

#include "tile/cp_async.h"

namespace quire::tile {

// A phase completes when the expected arrivals and all announced bytes have come; the next phase
// begins at once. Phases alternate in parity, the first has parity 0.
struct alignas(8) Mbarrier {
  u64 word;

  // By one thread, before any other use; then fence_mbarrier_init() and a block barrier.
  __forceinline__ void init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&word)),
                 "r"(arrivals)
                 : "memory");
  }
  __forceinline__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&word))
                 : "memory");
  }
  // Arrives, and announces bytes that the copy engine will bring in this phase.
  __forceinline__ void arrive_expect(int bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&word)),
        "r"(bytes)
        : "memory");
  }
  // Arrives when all copies by cp_async that this thread has begun have landed. Who then reads them
  // as the asynchronous proxy calls fence_async_proxy() before.
  __forceinline__ void arrive_after_copies() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&word))
                 : "memory");
  }
  // Has the phase of this parity completed? (The phase before the first counts as completed and
  // has parity 1.) True orders what the arrivals ordered before what follows.
  __forceinline__ bool test(u32 parity) {
    u32 done;
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(shared_address(&word)), "r"(parity)
        : "memory");
    return done != 0;
  }
  // Waits until it has.
  __forceinline__ void wait(u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra.uni finished;\n"
        "bra.uni again;\n"
        "finished:\n}\n" ::"r"(shared_address(&word)),
        "r"(parity)
        : "memory");
  }
};

// Makes the initialisation of barriers visible to the copy engine; by the thread that did it.
__forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

}  // namespace quire::tile
