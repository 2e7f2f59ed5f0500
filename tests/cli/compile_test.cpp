// quire compile: which kernels a part has.
#include <gtest/gtest.h>

#if QUIRE_WITH_CUDA
#include <array>
#include <cstdio>
#include <set>
#include <sstream>
#include <string>

namespace quire::cli {
namespace {

struct Answer {
  int status;
  std::string text;
};

Answer compile(const std::string& arguments) {
  const std::string out = testing::TempDir() + "quire_compile_test";
  const std::string command =
      std::string(QUIRE_PROGRAM) + " compile " + arguments + " --out " + out + " 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  std::string text;
  std::array<char, 256> chunk{};
  while (std::fgets(chunk.data(), chunk.size(), pipe)) text += chunk.data();
  return {pclose(pipe), text};
}

// Lines of the table from the name of the target on: its kernel and configuration.
std::multiset<std::string> kernels_of(const Answer& answer) {
  std::multiset<std::string> kernels;
  std::istringstream lines(answer.text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find("sm_80 ");
    if (at != std::string::npos) kernels.insert(line.substr(at));
  }
  return kernels;
}

TEST(Compile, PartsAreAllKernelsTogether) {
  const std::string small = "--arch sm_80 --op packbits,seq_lens,page_check,slot_check";
  const Answer all = compile(small);
  ASSERT_EQ(all.status, 0) << all.text;
  ASSERT_GE(kernels_of(all).size(), 4u) << all.text;
  std::multiset<std::string> joined;
  for (const char* part : {"1/3", "2/3", "3/3"}) {
    const Answer some = compile(small + " --part " + part);
    ASSERT_EQ(some.status, 0) << some.text;
    EXPECT_LT(kernels_of(some).size(), kernels_of(all).size());
    joined.merge(kernels_of(some));
  }
  EXPECT_EQ(joined, kernels_of(all));
}

TEST(Compile, BadPartsAreNamed) {
  for (const char* part : {"3/2", "0/2", "2", "1/2/3", "x"}) {
    const Answer answer = compile(std::string("--arch sm_80 --part ") + part);
    EXPECT_NE(answer.status, 0);
    EXPECT_NE(answer.text.find("expected K/N with 1 <= K <= N"), std::string::npos) << answer.text;
  }
}

}  // namespace
}  // namespace quire::cli
#endif
