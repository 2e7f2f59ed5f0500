#include <vector>

#include "emulated/primitive_kernel.h"
#include "quire/error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class Clusters : public HopperTest {};

void test_pass_around(int cluster, int threads, int clusters) {
  const int blocks = cluster * clusters;
  const TestTensor out = TestTensor::poisoned({blocks, threads}, DType::i32);
  run_primitive({.header = "cluster.cuh",
                 .function = "pass_around_cluster",
                 .config = {.n = cluster},
                 .params = {.out = out.view().data},
                 .threads = threads,
                 .grid_x = blocks,
                 .smem_bytes = 4 * static_cast<std::size_t>(threads) + 4,
                 .cluster_blocks = cluster});
  const std::vector<double> got = out.values();
  for (int block = 0; block < blocks; ++block) {
    const int next = block / cluster * cluster + (block + 1) % cluster;
    for (int t = 0; t < threads; ++t) {
      ASSERT_EQ(got[static_cast<std::size_t>(block * threads + t)],
                1000 * next + t + 100000 * cluster * threads)
          << "block " << block << " thread " << t;
    }
  }
}

TEST_F(Clusters, ReachEachOthersMemory) {
  test_pass_around(2, 32, 3);
  test_pass_around(8, 64, 2);
}

TEST_F(Clusters, GridsOfWholeClustersOnly) {
  const TestTensor out = TestTensor::poisoned({3, 32}, DType::i32);
  EXPECT_THROW(run_primitive({.header = "cluster.cuh",
                              .function = "pass_around_cluster",
                              .config = {.n = 2},
                              .params = {.out = out.view().data},
                              .threads = 32,
                              .grid_x = 3,
                              .smem_bytes = 132,
                              .cluster_blocks = 2}),
               Error);
}

}  // namespace
}  // namespace quire::test
