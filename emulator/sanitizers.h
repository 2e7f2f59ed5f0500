// Memory order between GPU threads as the thread sanitizer must see it. The emulator itself is not
// instrumented (its lanes share its variables); these are its only marks. Nothing in other builds.
#pragma once

#if QUIRE_EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include <cstddef>

namespace quire::emulator {

#if QUIRE_EMULATOR_TSAN
inline constexpr bool kThreadSanitizer = true;
// What happened before `release` of an object happens before what follows `acquire` of it.
inline void release(void* object) { __tsan_release(object); }
inline void acquire(void* object) { __tsan_acquire(object); }
#else
inline constexpr bool kThreadSanitizer = false;
inline void release(void*) {}
inline void acquire(void*) {}
#endif

// Makes any access to the bytes an error of the address sanitizer, or allows it again.
inline void forbid([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(begin, bytes);
#endif
}
inline void allow([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(begin, bytes);
#endif
}

}  // namespace quire::emulator
