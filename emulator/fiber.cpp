#include "emulator/fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "emulator/sanitizers.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves the callee-saved registers and the stack pointer, and goes on where `to` was saved.
// swapcontext() would do, but makes a system call a switch.
extern "C" void quire_emulator_switch_stack(void** from, void* to);
asm(R"(
.text
.globl quire_emulator_switch_stack
.hidden quire_emulator_switch_stack
.type quire_emulator_switch_stack, @function
quire_emulator_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size quire_emulator_switch_stack, . - quire_emulator_switch_stack
)");
#endif

namespace quire::emulator {
namespace {

thread_local Fiber* g_entering = nullptr;

}  // namespace

Fiber::Fiber() {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &stack_bottom_, &stack_bytes_);
    pthread_attr_destroy(&attributes);
  }
#if QUIRE_EMULATOR_TSAN
  sanitizer_thread_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(std::size_t stack_bytes, void (*body)(void*), void* argument)
    : body_(body), argument_(argument), stack_bytes_(stack_bytes) {
  const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  mapping_bytes_ = stack_bytes + page_bytes;
  mapping_ = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  mprotect(mapping_, page_bytes, PROT_NONE);  // the stack grows down towards it
  stack_bottom_ = static_cast<char*>(mapping_) + page_bytes;
#if QUIRE_EMULATOR_TSAN
  sanitizer_thread_ = __tsan_create_fiber(0);
#endif
#if defined(__x86_64__)
  auto** top = reinterpret_cast<void**>(static_cast<char*>(mapping_) + mapping_bytes_);
  *--top = nullptr;  // enter() has no caller; also aligns its frame
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  stack_pointer_ = top - 6;  // zeroes for the six registers
#else
  getcontext(&context_);
  context_.uc_stack = {.ss_sp = stack_bottom_, .ss_flags = 0, .ss_size = stack_bytes};
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::enter, 0);
#endif
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
#if QUIRE_EMULATOR_TSAN
  __tsan_destroy_fiber(sanitizer_thread_);
#endif
  munmap(mapping_, mapping_bytes_);
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  g_entering = &to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.sanitizer_stack_, to.stack_bottom_, to.stack_bytes_);
#endif
#if QUIRE_EMULATOR_TSAN
  __tsan_switch_to_fiber(to.sanitizer_thread_, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__x86_64__)
  quire_emulator_switch_stack(&from.stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.sanitizer_stack_, nullptr, nullptr);
#endif
}

void Fiber::enter() {
  const Fiber& self = *g_entering;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  self.body_(self.argument_);
  __builtin_trap();
}

}  // namespace quire::emulator
