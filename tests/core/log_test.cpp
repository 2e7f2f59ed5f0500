#include "core/log.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "core/env.h"

namespace quire {
namespace {

constexpr const char* kVariable = "QUIRE_LOG";

TEST(Env, Flags) {
  for (const char* off : {"", "0", "false", "off"}) {
    setenv("QUIRE_TEST_FLAG", off, 1);
    EXPECT_FALSE(env::flag("QUIRE_TEST_FLAG")) << off;
  }
  for (const char* on : {"1", "true", "yes"}) {
    setenv("QUIRE_TEST_FLAG", on, 1);
    EXPECT_TRUE(env::flag("QUIRE_TEST_FLAG")) << on;
  }
  unsetenv("QUIRE_TEST_FLAG");
  EXPECT_FALSE(env::flag("QUIRE_TEST_FLAG"));
  EXPECT_EQ(env::get("QUIRE_TEST_FLAG"), std::nullopt);
}

TEST(Log, IsOffUnlessAskedFor) {
  unsetenv(kVariable);
  testing::internal::CaptureStderr();
  log::write(log::Level::error, "silence");
  setenv(kVariable, "nonsense", 1);
  log::write(log::Level::error, "silence");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Log, LevelsIncludeTheMoreSevere) {
  setenv(kVariable, "info", 1);
  EXPECT_TRUE(log::enabled(log::Level::error));
  EXPECT_FALSE(log::enabled(log::Level::debug));
  testing::internal::CaptureStderr();
  log::write(log::Level::info, "heard");
  log::write(log::Level::debug, "not heard");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "quire info: heard\n");
  unsetenv(kVariable);
}

}  // namespace
}  // namespace quire
