// OpenBLAS, by dlopen: the two products used here, and its threads kept out of the way.
#pragma once

namespace quire::cpu {

struct OpenBlas {
  void (*sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);
  void (*sgemv)(int order, int transpose, int m, int n, float alpha, const float* a, int lda,
                const float* x, int increment_x, float beta, float* y, int increment_y);
  // Null in other CBLAS libraries, which QUIRE_OPENBLAS may name.
  void (*set_num_threads)(int num_threads);
  int (*get_num_threads)();
};

// CBLAS's enum values.
inline constexpr int kRowMajor = 101;
inline constexpr int kNoTranspose = 111;
inline constexpr int kTranspose = 112;

// Loads the library at the first call. Throws Error{device_unavailable} saying where it looked.
const OpenBlas& openblas();

// While one exists OpenBLAS computes in the calling thread: its callers here are threads already,
// and a pool inside a pool makes both slow. The last one puts the number of threads back.
class SingleThreadedBlas {
 public:
  explicit SingleThreadedBlas(const OpenBlas& blas);
  ~SingleThreadedBlas();
  SingleThreadedBlas(const SingleThreadedBlas&) = delete;
  SingleThreadedBlas& operator=(const SingleThreadedBlas&) = delete;

 private:
  const OpenBlas& blas_;
};

}  // namespace quire::cpu
