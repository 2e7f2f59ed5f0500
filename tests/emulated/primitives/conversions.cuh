// Grid: any. Block: any. Smem: none. Output: out.
#pragma once

#include "primitive_types.h"
#include "tile/word.h"

namespace quire::kernels {

// a: dtype [count], out: f32 [count].
template <PrimitiveConfig c>
void widen(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count) return;
  static_cast<float*>(p.out)[i] = tile::to_float(static_cast<const T*>(p.a)[i]);
}

// a: f32 [count], out: dtype [2, count]: one by one, then by pack2 (count is even).
template <PrimitiveConfig c>
void narrow(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count) return;
  const float* a = static_cast<const float*>(p.a);
  T* out = static_cast<T*>(p.out);
  out[i] = tile::from_float<T>(a[i]);
  if (i % 2 == 0) reinterpret_cast<u32*>(out + p.count)[i / 2] = tile::pack2<T>(a[i], a[i + 1]);
}

// a: 8-bit floats [count], of 4 exponent bits (n = 4) or 5, out: dtype [count]; 16 at a time.
template <PrimitiveConfig c>
void widen_bytes(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  using F8 = tile::storage_t<c.n == 4 ? DType::f8e4m3 : DType::f8e5m2>;
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count / 16) return;
  const auto src = static_cast<const tile::Vec<u32, 4>*>(p.a)[i];
  tile::Vec<u32, 8> dst;
  tile::widen16<F8, T>(dst.data, src.data);
  auto* out = static_cast<u32*>(p.out) + 8 * i;
  for (int j = 0; j < 8; ++j) out[j] = dst.data[j];
}

// The same to f16, four at a time.
template <PrimitiveConfig c>
void widen_words(const PrimitiveParams& p) {
  using F8 = tile::storage_t<c.n == 4 ? DType::f8e4m3 : DType::f8e5m2>;
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count / 4) return;
  u32 dst[2];
  tile::widen4<F8>(dst, static_cast<const u32*>(p.a)[i]);
  static_cast<u32*>(p.out)[2 * i] = dst[0];
  static_cast<u32*>(p.out)[2 * i + 1] = dst[1];
}

// a: u32 [3, count]: words, words, selectors. out: u32 [count].
template <PrimitiveConfig c>
void permute_words(const PrimitiveParams& p) {
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count) return;
  const u32* a = static_cast<const u32*>(p.a);
  static_cast<u32*>(p.out)[i] = tile::permute_bytes(a[i], a[p.count + i], a[2 * p.count + i]);
}

// a: f32 [count], out: fp8 dtype [2, count]: one by one, then by twos (count is even).
template <PrimitiveConfig c>
void narrow_bytes(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count) return;
  const float* a = static_cast<const float*>(p.a);
  T* out = static_cast<T*>(p.out);
  out[i] = tile::from_float<T>(a[i]);
  if (i % 2 == 1) return;
  const u32 both = tile::narrow2<T>(a[i], a[i + 1]);
  out[p.count + i] = {static_cast<u8>(both)};
  out[p.count + i + 1] = {static_cast<u8>(both >> 8)};
}

// a: f32 [count], out: e2m1 [count], two a byte; eight at a time.
template <PrimitiveConfig c>
void narrow_e2m1(const PrimitiveParams& p) {
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count / 8) return;
  float x[8];
  tile::load<8>(x, static_cast<const float*>(p.a) + 8 * i);
  static_cast<u32*>(p.out)[i] = tile::narrow8_e2m1(x, 0.5f);
}

// a: 8-bit floats of dtype [count], out: f32 [count]; n at a time.
template <PrimitiveConfig c>
void unpack_words(const PrimitiveParams& p) {
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count / c.n) return;
  float x[c.n];
  tile::unpack_word<tile::storage_t<c.dtype>>(x, static_cast<const tile::word_t<c.n>*>(p.a)[i]);
  for (int j = 0; j < c.n; ++j) static_cast<float*>(p.out)[i * c.n + j] = x[j];
}

// a: dtype [count], out: f32 [count / (2 n)], the largest magnitude in two words of n elements.
template <PrimitiveConfig c>
void largest_of_words(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count / (2 * c.n)) return;
  tile::LargestOfWords<T> largest;
  for (int word = 0; word < 2; ++word) {
    largest.template add<c.n>(
        tile::load_word<c.n>(static_cast<const T*>(p.a) + (2 * i + word) * c.n));
  }
  static_cast<float*>(p.out)[i] = largest.value();
}

// a: dtype [count], out: dtype [count]: words of n elements through floats.
template <PrimitiveConfig c>
void repack_words(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count / c.n) return;
  float x[c.n];
  tile::unpack_word<T>(x, tile::load_word<c.n>(static_cast<const T*>(p.a) + i * c.n));
  static_cast<tile::word_t<c.n * sizeof(T)>*>(p.out)[i] = tile::pack_word<T>(x);
}

// out = a, dtype [count], n elements at a time through floats.
template <PrimitiveConfig c>
void copy_vectors(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  const int i = (tile::block_index() * tile::num_threads() + tile::thread_index()) * c.n;
  if (i >= p.count) return;
  float x[c.n];
  tile::load<c.n>(x, static_cast<const T*>(p.a) + i);
  tile::store<c.n>(static_cast<T*>(p.out) + i, x);
}

// out = a, then one zero word: bytes [count + n], n bytes at a time.
template <PrimitiveConfig c>
void copy_words(const PrimitiveParams& p) {
  using Word = tile::word_t<c.n>;
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i > p.count / c.n) return;
  static_cast<Word*>(p.out)[i] = i < p.count / c.n ? static_cast<const Word*>(p.a)[i] : Word{};
}

}  // namespace quire::kernels
