// The variants of examples/custom_variant agree with their own double reference.
#include <gtest/gtest.h>

#include "custom_variants.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

TEST(DeviceAgreementOfVariants, EveryExample) {
  if (test_device().is_cpu()) GTEST_SKIP() << "variants run on CUDA";
  for (const custom_variant::Example& example : custom_variant::all_examples()) {
    const double difference = custom_variant::largest_difference(example, test_device());
    EXPECT_LT(difference, 0.02) << example.variant.name;
    EXPECT_GT(difference, 0) << example.variant.name;
  }
}

}  // namespace
}  // namespace quire::test
