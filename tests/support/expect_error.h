// Table-driven tests of bad input.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "quire/error.h"

namespace quire::test {

struct BadCall {
  std::function<void()> call;
  ErrorCode code;
  std::string text;  // the whole message
};

// Every call throws Error with exactly this code and text.
inline void expect_errors(const std::vector<BadCall>& calls) {
  for (const BadCall& bad : calls) {
    SCOPED_TRACE(bad.text);
    try {
      bad.call();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), bad.text);
      EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(bad.code));
    }
  }
}

}  // namespace quire::test
