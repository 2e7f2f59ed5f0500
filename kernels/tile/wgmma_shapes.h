// The instructions behind Wgmma<T, n>, for every n that is a multiple of 16. An instruction names
// each of its n / 2 accumulators, in its text and as an operand: only macros can spell that out.
// GPU side.
#pragma once

#include "tile/wgmma.h"

// "%0, %1, …" of 8 accumulators, and of the first 8, 16, 24, …
#define QUIRE_REGS_16 "%0, %1, %2, %3, %4, %5, %6, %7"
#define QUIRE_REGS_32 \
  QUIRE_REGS_16       \
  ", "                \
  "%8, %9, %10, %11, %12, %13, %14, %15"
#define QUIRE_REGS_48 \
  QUIRE_REGS_32       \
  ", "                \
  "%16, %17, %18, %19, %20, %21, %22, %23"
#define QUIRE_REGS_64 \
  QUIRE_REGS_48       \
  ", "                \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define QUIRE_REGS_80 \
  QUIRE_REGS_64       \
  ", "                \
  "%32, %33, %34, %35, %36, %37, %38, %39"
#define QUIRE_REGS_96 \
  QUIRE_REGS_80       \
  ", "                \
  "%40, %41, %42, %43, %44, %45, %46, %47"
#define QUIRE_REGS_112 \
  QUIRE_REGS_96        \
  ", "                 \
  "%48, %49, %50, %51, %52, %53, %54, %55"
#define QUIRE_REGS_128 \
  QUIRE_REGS_112       \
  ", "                 \
  "%56, %57, %58, %59, %60, %61, %62, %63"
#define QUIRE_REGS_144 \
  QUIRE_REGS_128       \
  ", "                 \
  "%64, %65, %66, %67, %68, %69, %70, %71"
#define QUIRE_REGS_160 \
  QUIRE_REGS_144       \
  ", "                 \
  "%72, %73, %74, %75, %76, %77, %78, %79"
#define QUIRE_REGS_176 \
  QUIRE_REGS_160       \
  ", "                 \
  "%80, %81, %82, %83, %84, %85, %86, %87"
#define QUIRE_REGS_192 \
  QUIRE_REGS_176       \
  ", "                 \
  "%88, %89, %90, %91, %92, %93, %94, %95"
#define QUIRE_REGS_208 \
  QUIRE_REGS_192       \
  ", "                 \
  "%96, %97, %98, %99, %100, %101, %102, %103"
#define QUIRE_REGS_224 \
  QUIRE_REGS_208       \
  ", "                 \
  "%104, %105, %106, %107, %108, %109, %110, %111"
#define QUIRE_REGS_240 \
  QUIRE_REGS_224       \
  ", "                 \
  "%112, %113, %114, %115, %116, %117, %118, %119"
#define QUIRE_REGS_256 \
  QUIRE_REGS_240       \
  ", "                 \
  "%120, %121, %122, %123, %124, %125, %126, %127"

// The operands of 8 accumulators, and of the first 8, 16, 24, …
#define QUIRE_OUT_8(i)                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define QUIRE_OUT_16 QUIRE_OUT_8(0)
#define QUIRE_OUT_32 QUIRE_OUT_16, QUIRE_OUT_8(8)
#define QUIRE_OUT_48 QUIRE_OUT_32, QUIRE_OUT_8(16)
#define QUIRE_OUT_64 QUIRE_OUT_48, QUIRE_OUT_8(24)
#define QUIRE_OUT_80 QUIRE_OUT_64, QUIRE_OUT_8(32)
#define QUIRE_OUT_96 QUIRE_OUT_80, QUIRE_OUT_8(40)
#define QUIRE_OUT_112 QUIRE_OUT_96, QUIRE_OUT_8(48)
#define QUIRE_OUT_128 QUIRE_OUT_112, QUIRE_OUT_8(56)
#define QUIRE_OUT_144 QUIRE_OUT_128, QUIRE_OUT_8(64)
#define QUIRE_OUT_160 QUIRE_OUT_144, QUIRE_OUT_8(72)
#define QUIRE_OUT_176 QUIRE_OUT_160, QUIRE_OUT_8(80)
#define QUIRE_OUT_192 QUIRE_OUT_176, QUIRE_OUT_8(88)
#define QUIRE_OUT_208 QUIRE_OUT_192, QUIRE_OUT_8(96)
#define QUIRE_OUT_224 QUIRE_OUT_208, QUIRE_OUT_8(104)
#define QUIRE_OUT_240 QUIRE_OUT_224, QUIRE_OUT_8(112)
#define QUIRE_OUT_256 QUIRE_OUT_240, QUIRE_OUT_8(120)

// i0 … i6: numbers of the operands after the accumulators. The predicate decides whether D is
// added.
#define QUIRE_WGMMA_SS(n, instruction, flags, i0, i1, i2)                               \
  static __forceinline__ void ss(float(&d)[n / 2], u64 a, u64 b, bool accumulate) {     \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i2                               \
                 ", 0;\n"                                                               \
                 "wgmma.mma_async.sync.aligned.m64n" #n instruction " {" QUIRE_REGS_##n \
                 "}, %" #i0 ", %" #i1 ", p, 1, 1" flags ";\n}\n"                        \
                 : QUIRE_OUT_##n                                                        \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                  \
  }
#define QUIRE_WGMMA_RS(n, instruction, flags, i0, i1, i2, i3, i4, i5)                            \
  static __forceinline__ void rs(float(&d)[n / 2], const u32(&a)[4], u64 b, bool accumulate) {   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i5                                        \
                 ", 0;\n"                                                                        \
                 "wgmma.mma_async.sync.aligned.m64n" #n instruction " {" QUIRE_REGS_##n          \
                 "}, {%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i4 ", p, 1, 1" flags ";\n}\n" \
                 : QUIRE_OUT_##n                                                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                           \
                   "r"(static_cast<int>(accumulate)));                                           \
  }
#define QUIRE_WGMMA_16_BIT(type, instruction, n, i0, i1, i2, i3, i4, i5)                           \
  template <>                                                                                      \
  struct Wgmma<type, n> {                                                                          \
    QUIRE_WGMMA_SS(n, instruction, ", 0, 0", i0, i1, i2)                                           \
    template <bool transpose_b>                                                                    \
    static __forceinline__ void rs(float (&d)[n / 2], const u32 (&a)[4], u64 b, bool accumulate) { \
      if constexpr (transpose_b) {                                                                 \
        Transposed::rs(d, a, b, accumulate);                                                       \
      } else {                                                                                     \
        Plain::rs(d, a, b, accumulate);                                                            \
      }                                                                                            \
    }                                                                                              \
                                                                                                   \
   private:                                                                                        \
    struct Transposed {                                                                            \
      QUIRE_WGMMA_RS(n, instruction, ", 1", i0, i1, i2, i3, i4, i5)                                \
    };                                                                                             \
    struct Plain {                                                                                 \
      QUIRE_WGMMA_RS(n, instruction, ", 0", i0, i1, i2, i3, i4, i5)                                \
    };                                                                                             \
  };
#define QUIRE_WGMMA(n, i0, i1, i2, i3, i4, i5)                             \
  QUIRE_WGMMA_16_BIT(bf16, "k16.f32.bf16.bf16", n, i0, i1, i2, i3, i4, i5) \
  QUIRE_WGMMA_16_BIT(f16, "k16.f32.f16.f16", n, i0, i1, i2, i3, i4, i5)    \
  template <>                                                              \
  struct Wgmma<f8e4m3, n> {                                                \
    QUIRE_WGMMA_SS(n, "k32.f32.e4m3.e4m3", "", i0, i1, i2)                 \
    QUIRE_WGMMA_RS(n, "k32.f32.e4m3.e4m3", "", i0, i1, i2, i3, i4, i5)     \
  };

namespace quire::tile {

QUIRE_WGMMA(16, 8, 9, 10, 11, 12, 13)
QUIRE_WGMMA(32, 16, 17, 18, 19, 20, 21)
QUIRE_WGMMA(48, 24, 25, 26, 27, 28, 29)
QUIRE_WGMMA(64, 32, 33, 34, 35, 36, 37)
QUIRE_WGMMA(80, 40, 41, 42, 43, 44, 45)
QUIRE_WGMMA(96, 48, 49, 50, 51, 52, 53)
QUIRE_WGMMA(112, 56, 57, 58, 59, 60, 61)
QUIRE_WGMMA(128, 64, 65, 66, 67, 68, 69)
QUIRE_WGMMA(144, 72, 73, 74, 75, 76, 77)
QUIRE_WGMMA(160, 80, 81, 82, 83, 84, 85)
QUIRE_WGMMA(176, 88, 89, 90, 91, 92, 93)
QUIRE_WGMMA(192, 96, 97, 98, 99, 100, 101)
QUIRE_WGMMA(208, 104, 105, 106, 107, 108, 109)
QUIRE_WGMMA(224, 112, 113, 114, 115, 116, 117)
QUIRE_WGMMA(240, 120, 121, 122, 123, 124, 125)
QUIRE_WGMMA(256, 128, 129, 130, 131, 132, 133)

}  // namespace quire::tile

#undef QUIRE_WGMMA
#undef QUIRE_WGMMA_16_BIT
#undef QUIRE_WGMMA_RS
#undef QUIRE_WGMMA_SS
#undef QUIRE_OUT_8
#undef QUIRE_OUT_16
#undef QUIRE_REGS_16
#undef QUIRE_OUT_32
#undef QUIRE_REGS_32
#undef QUIRE_OUT_48
#undef QUIRE_REGS_48
#undef QUIRE_OUT_64
#undef QUIRE_REGS_64
#undef QUIRE_OUT_80
#undef QUIRE_REGS_80
#undef QUIRE_OUT_96
#undef QUIRE_REGS_96
#undef QUIRE_OUT_112
#undef QUIRE_REGS_112
#undef QUIRE_OUT_128
#undef QUIRE_REGS_128
#undef QUIRE_OUT_144
#undef QUIRE_REGS_144
#undef QUIRE_OUT_160
#undef QUIRE_REGS_160
#undef QUIRE_OUT_176
#undef QUIRE_REGS_176
#undef QUIRE_OUT_192
#undef QUIRE_REGS_192
#undef QUIRE_OUT_208
#undef QUIRE_REGS_208
#undef QUIRE_OUT_224
#undef QUIRE_REGS_224
#undef QUIRE_OUT_240
#undef QUIRE_REGS_240
#undef QUIRE_OUT_256
#undef QUIRE_REGS_256
