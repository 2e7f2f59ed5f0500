// Expects a quire::Error with exactly this code and text.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "quire/error.h"

namespace quire::test {

template <class Call>
void expect_error(Call&& call, ErrorCode code, const std::string& text) {
  SCOPED_TRACE(text);
  try {
    call();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), text);
    EXPECT_EQ(error.code(), code);
  }
}

// Bad input as a table.
struct BadCall {
  std::function<void()> call;
  ErrorCode code;
  std::string text;
};

inline void expect_errors(const std::vector<BadCall>& calls) {
  for (const BadCall& bad : calls) expect_error(bad.call, bad.code, bad.text);
}

}  // namespace quire::test
