#include "jit/resource_report.h"

#include <gtest/gtest.h>

namespace quire::jit {
namespace {

TEST(ResourceReport, OneKernel) {
  CompiledKernel kernel;
  read_resource_report(
      "ptxas info    : 0 bytes gmem\n"
      "ptxas info    : Compiling entry function 'norm' for 'sm_80'\n"
      "ptxas info    : Function properties for norm\n"
      "    8 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads\n"
      "ptxas info    : Used 42 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]\n",
      kernel);
  EXPECT_EQ(kernel.registers, 42);
  EXPECT_EQ(kernel.local_bytes, 8);
  EXPECT_EQ(kernel.spill_bytes, 32);
  EXPECT_EQ(kernel.static_smem_bytes, 1024);
}

TEST(ResourceReport, FunctionsThatWereNotInlinedCount) {
  CompiledKernel kernel;
  read_resource_report(
      "ptxas info    : Function properties for norm\n"
      "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
      "ptxas info    : Used 42 registers, 352 bytes cmem[0]\n"
      "ptxas info    : Function properties for helper\n"
      "    16 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n",
      kernel);
  EXPECT_EQ(kernel.local_bytes, 16);
  EXPECT_EQ(kernel.spill_bytes, 8);
  EXPECT_EQ(kernel.static_smem_bytes, 0) << "ptxas does not mention shared memory when unused";
}

TEST(ResourceReport, NothingSaidIsUnknown) {
  CompiledKernel kernel;
  read_resource_report("kernel.cu(3): warning: registers are mentioned\n", kernel);
  EXPECT_EQ(kernel.registers, -1);
  EXPECT_EQ(kernel.local_bytes, -1);
  EXPECT_EQ(kernel.spill_bytes, -1);
  EXPECT_EQ(kernel.static_smem_bytes, -1);
}

}  // namespace
}  // namespace quire::jit
