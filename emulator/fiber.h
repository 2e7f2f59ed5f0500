// A call stack of its own that runs when somebody switches to it. Tells the address and thread
// sanitizers, for which a fiber is a stack and a thread.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace quire::emulator {

class Fiber {
 public:
  // The stack that is running now. Switching away from it and back is all it can be used for.
  Fiber();
  // A new stack; body(argument) runs at the first switch to it and must never return.
  Fiber(std::size_t stack_bytes, void (*body)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Returns when somebody switches back to `from`. Orders no memory between the two.
  static void switch_to(Fiber& from, Fiber& to);

 private:
  static void enter();  // first function of a new stack

  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  void* mapping_ = nullptr;  // guard page and stack, or null for a stack that is not ours
  std::size_t mapping_bytes_ = 0;
  void* stack_bottom_ = nullptr;
  std::size_t stack_bytes_ = 0;
  void* sanitizer_stack_ = nullptr;
  void* sanitizer_thread_ = nullptr;
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_{};
#endif
};

}  // namespace quire::emulator
