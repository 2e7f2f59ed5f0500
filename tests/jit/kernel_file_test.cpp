// Files of compiled kernels: whatever happens to one, it is either read whole or not at all.
#include "jit/kernel_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include "jit/child_process.h"
#include "jit/scoped_environment.h"
#include "quire/error.h"

namespace quire::jit {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void put_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

class KernelFileTest : public testing::Test {
 protected:
  std::size_t num_files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder.path()), {}));
  }

  test::TemporaryFolder folder;
  const fs::path path = folder.path() / "kernel.cubin";
  const KernelFile file{"key", "NVRTC 13.0", std::string("ma\0chine\ncode\n\n", 15)};
};

TEST_F(KernelFileTest, RoundTrip) {
  write_kernel_file(path, file);
  const auto read = read_kernel_file(path, "key");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->compiler, file.compiler);
  EXPECT_EQ(read->image, file.image);
  EXPECT_EQ(num_files(), 1u) << "a temporary file was left";
}

TEST_F(KernelFileTest, Overwrites) {
  write_kernel_file(path, {"key", "NVRTC 12.9", "older"});
  write_kernel_file(path, file);
  EXPECT_EQ(read_kernel_file(path, "key")->image, file.image);
}

TEST_F(KernelFileTest, MissingIsNoTrouble) {
  const test::ScopedVariable log("QUIRE_LOG", "error");
  testing::internal::CaptureStderr();
  EXPECT_FALSE(read_kernel_file(path, "key"));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(KernelFileTest, AnotherKernelsFileIsRefused) {
  write_kernel_file(path, file);
  const test::ScopedVariable log("QUIRE_LOG", "error");
  testing::internal::CaptureStderr();
  EXPECT_FALSE(read_kernel_file(path, "other"));
  EXPECT_NE(testing::internal::GetCapturedStderr().find("of another kernel"), std::string::npos);
}

TEST_F(KernelFileTest, EveryDamagedByteIsNoticed) {
  write_kernel_file(path, file);
  const std::string good = bytes_of(path);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    put_bytes(path, bad);
    EXPECT_FALSE(read_kernel_file(path, "key")) << "byte " << i;
  }
}

TEST_F(KernelFileTest, EveryLengthButTheRightOneIsNoticed) {
  write_kernel_file(path, file);
  const std::string good = bytes_of(path);
  for (std::size_t length = 0; length < good.size(); ++length) {
    put_bytes(path, good.substr(0, length));
    EXPECT_FALSE(read_kernel_file(path, "key")) << length;
  }
  put_bytes(path, good + "x");
  EXPECT_FALSE(read_kernel_file(path, "key"));
  put_bytes(path, good);
  EXPECT_TRUE(read_kernel_file(path, "key"));
}

TEST_F(KernelFileTest, ForeignFilesAreNoticed) {
  for (const char* bytes :
       {"", "\n",
        "\x7f"
        "ELF\x02\x01",
        "quire-kernel 1\n", "quire-kernel 2\nkey key\n", "quire-kernel 1\nkey key\nkey key\n\n"}) {
    put_bytes(path, bytes);
    EXPECT_FALSE(read_kernel_file(path, "key"));
  }
  fs::remove(path);
  fs::create_directory(path);
  EXPECT_FALSE(read_kernel_file(path, "key")) << "a folder in place of the file";
}

TEST_F(KernelFileTest, WhereNothingCanBeWritten) {
  try {
    write_kernel_file(folder.path() / "absent" / "kernel.cubin", file);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_NE(std::string(error.what()).find("No such file"), std::string::npos) << error.what();
  }
}

TEST_F(KernelFileTest, NoSpaceLeftLeavesTheOldFile) {
  write_kernel_file(path, file);
  const KernelFile large{"key", "NVRTC 13.0", std::string(100000, 'x')};
  const bool refused = test::in_child([&] {
    // Past the limit a write fails as on a full disk; without the handler it would end the process.
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    try {
      write_kernel_file(path, large);
    } catch (const Error& error) {
      return error.code() == ErrorCode::io;
    }
    return false;
  });
  EXPECT_TRUE(refused);
  EXPECT_EQ(read_kernel_file(path, "key")->image, file.image);
  EXPECT_EQ(num_files(), 1u) << "a temporary file was left";
}

TEST_F(KernelFileTest, ReadersNeverSeeHalfAFile) {
  const KernelFile large{"key", "NVRTC 13.0", std::string(1 << 20, 'x')};
  const KernelFile larger{"key", "NVRTC 13.0", std::string(2 << 20, 'y')};
  write_kernel_file(path, large);
  std::vector<pid_t> writers;
  for (int i = 0; i < 2; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      for (int n = 0; n < 30; ++n) write_kernel_file(path, n % 2 == i ? large : larger);
      _exit(0);
    }
    writers.push_back(child);
  }
  for (int n = 0; n < 60; ++n) {
    const auto read = read_kernel_file(path, "key");
    ASSERT_TRUE(read);
    EXPECT_TRUE(read->image == large.image || read->image == larger.image);
  }
  for (const pid_t writer : writers) {
    int status = -1;
    waitpid(writer, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(num_files(), 1u);
}

}  // namespace
}  // namespace quire::jit
