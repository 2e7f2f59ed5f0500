// The kernel cache and the precompiled set, with a compiler that counts.
#include "jit/cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "jit/child_process.h"
#include "jit/compiler.h"
#include "jit/kernel_file.h"
#include "jit/scoped_environment.h"
#include "quire/error.h"

namespace quire::jit {
namespace {

namespace fs = std::filesystem;

KernelSpec sample_spec() {
  return {.name = "norm",
          .header = "norm/sample.cuh",
          .function = "norm",
          .config_type = "NormConfig",
          .config = "{.threads=128}",
          .params_type = "NormParams",
          .extra_headers = {{"norm/sample.cuh", "#include \"dtype.h\"\n"}}};
}

class Cache : public testing::Test {
 protected:
  Cache() { use_compiler("counting 1"); }
  ~Cache() override { replace_compiler_for_testing(nullptr); }

  void use_compiler(const std::string& version) {
    replace_compiler_for_testing(
        [this](const KernelSpec& spec, const std::string& arch) {
          ++compilations;
          return CompiledKernel{.image = spec.name + spec.config + arch};
        },
        version);
  }

  fs::path file_of(const KernelSpec& spec, const std::string& arch) const {
    return cache_path / (cache_key(spec, arch) + ".cubin");
  }

  test::TemporaryFolder folder;
  const fs::path cache_path = folder.path() / "a" / "cache";
  test::ScopedVariable cache_variable{"QUIRE_CACHE_DIR", cache_path.c_str()};
  test::ScopedVariable precompiled_variable{"QUIRE_PRECOMPILED_DIR",
                                            (folder.path() / "set").c_str()};
  const KernelSpec spec = sample_spec();
  const std::string image = "norm{.threads=128}sm_80";
  int compilations = 0;
};

TEST_F(Cache, SecondTimeComesFromTheDisk) {
  EXPECT_EQ(load_or_compile(spec, "sm_80"), image);
  EXPECT_EQ(compilations, 1);
  EXPECT_EQ(load_or_compile(spec, "sm_80"), image);
  EXPECT_EQ(compilations, 1);
  struct stat info{};
  ASSERT_EQ(stat(cache_path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(Cache, KeyDependsOnEverything) {
  std::set<std::string> keys = {cache_key(spec, "sm_80"), cache_key(spec, "sm_90a")};
  const auto add = [&](auto&& change) {
    KernelSpec other = spec;
    change(other);
    keys.insert(cache_key(other, "sm_80"));
  };
  add([](KernelSpec& s) { s.config = "{.threads=256}"; });
  add([](KernelSpec& s) { s.threads_per_block = 256; });
  add([](KernelSpec& s) { s.min_blocks_per_sm = 2; });
  add([](KernelSpec& s) { s.params_type = "Other"; });
  add([](KernelSpec& s) { s.extra_headers[0].text = "#include \"dtype.h\" \n"; });
  add([](KernelSpec& s) { s.extra_headers[0].text = "#include \"tile/warp.h\"\n"; });
  use_compiler("counting 2");
  keys.insert(cache_key(spec, "sm_80"));
  EXPECT_EQ(keys.size(), 9u);
  for (const std::string& key : keys) EXPECT_EQ(key.find("norm-sm_"), 0u) << "readable prefix";
}

TEST_F(Cache, KeyIgnoresWhatDoesNotMatter) {
  KernelSpec other = spec;
  other.dynamic_smem_bytes = 4096;
  other.extra_headers.push_back({"unused.h", "anything"});
  EXPECT_EQ(cache_key(other, "sm_80"), cache_key(spec, "sm_80"));
}

TEST_F(Cache, DamagedFilesAreRebuilt) {
  load_or_compile(spec, "sm_80");
  const fs::path file = file_of(spec, "sm_80");
  const auto damage = [&](const char* how, auto&& act) {
    act();
    compilations = 0;
    EXPECT_EQ(load_or_compile(spec, "sm_80"), image) << how;
    EXPECT_EQ(compilations, 1) << how;
    EXPECT_EQ(load_or_compile(spec, "sm_80"), image) << how;
    EXPECT_EQ(compilations, 1) << how << ": not mended";
  };
  damage("truncated", [&] { fs::resize_file(file, fs::file_size(file) - 1); });
  damage("empty", [&] { fs::resize_file(file, 0); });
  damage("longer", [&] { std::ofstream(file, std::ios::app) << "x"; });
  damage("foreign", [&] { std::ofstream(file) << "not a kernel"; });
  damage("another kernel's", [&] { write_kernel_file(file, {"other", "c", "image"}); });
}

TEST_F(Cache, NeverFailsWhenItCannotBeWritten) {
  std::ofstream(folder.path() / "a") << "a file where a folder should be";
  const test::ScopedVariable log("QUIRE_LOG", "error");
  testing::internal::CaptureStderr();
  EXPECT_EQ(load_or_compile(spec, "sm_80"), image);
  EXPECT_EQ(load_or_compile(spec, "sm_80"), image);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("kernel cache: " + cache_path.string()), std::string::npos) << text;
  EXPECT_EQ(compilations, 2);
}

TEST_F(Cache, ReadOnlyFolder) {
  fs::create_directories(cache_path);
  fs::permissions(folder.path(), fs::perms::owner_all | fs::perms::others_exec);
  fs::permissions(cache_path, fs::perms::owner_exec | fs::perms::others_exec);
  EXPECT_TRUE(test::in_child([&] {
    constexpr uid_t kNobody = 65534;
    if (geteuid() == 0 && seteuid(kNobody) != 0) return false;  // root may write everywhere
    return load_or_compile(spec, "sm_80") == image && compilations == 1;
  }));
  fs::permissions(cache_path, fs::perms::owner_all);
  EXPECT_TRUE(fs::is_empty(cache_path));
}

TEST_F(Cache, PlaceFollowsTheEnvironment) {
  EXPECT_EQ(cache_folder(), cache_path);
  const test::ScopedVariable no_folder("QUIRE_CACHE_DIR", nullptr);
  const test::ScopedVariable home("HOME", "/home/somebody");
  const test::ScopedVariable xdg("XDG_CACHE_HOME", "/xdg");
  EXPECT_EQ(cache_folder(), "/xdg/quire");
  const test::ScopedVariable no_xdg("XDG_CACHE_HOME", nullptr);
  EXPECT_EQ(cache_folder(), "/home/somebody/.cache/quire");
  const test::ScopedVariable no_home("HOME", nullptr);
  EXPECT_EQ(cache_folder(), "");
  EXPECT_EQ(load_or_compile(spec, "sm_80"), image);
}

TEST_F(Cache, ManyProcessesAtOnce) {
  std::vector<pid_t> children;
  for (int i = 0; i < 6; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      bool good = true;
      for (int n = 0; n < 20; ++n) {
        KernelSpec own = spec;
        own.config = "{.threads=" + std::to_string(n) + "}";
        good = good && load_or_compile(own, "sm_80") == "norm" + own.config + "sm_80";
      }
      _exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(cache_path), {}), 20);
}

class PrecompiledSet : public Cache {
 protected:
  void put(const std::string& arch, const std::string& text) {
    const fs::path at = precompiled_folder() / arch;
    fs::create_directories(at);
    const std::string key = precompiled_key(spec, arch);
    write_kernel_file(at / (key + ".cubin"), {key, "counting 0", text});
  }
};

TEST_F(PrecompiledSet, ComesFirst) {
  put("sm_90a", "ready");
  EXPECT_EQ(load_or_compile(spec, "sm_90a"), "ready");
  EXPECT_EQ(compilations, 0);
  EXPECT_FALSE(fs::exists(cache_path)) << "nothing to cache";
  KernelSpec other = spec;
  other.config = "{.threads=64}";
  load_or_compile(other, "sm_90a");
  EXPECT_EQ(compilations, 1) << "not in the set";
}

TEST_F(PrecompiledSet, ServesCompatibleArchitecturesOnly) {
  put("sm_80", "ready");
  for (const char* arch : {"sm_80", "sm_86", "sm_87", "sm_89"}) {
    EXPECT_EQ(load_or_compile(spec, arch), "ready") << arch;
  }
  EXPECT_EQ(compilations, 0);
  put("sm_90a", "ready");
  for (const char* arch : {"sm_90", "sm_100a", "sm_120a"}) {
    EXPECT_NE(load_or_compile(spec, arch), "ready") << arch;
  }
  EXPECT_EQ(compilations, 3);
}

TEST_F(PrecompiledSet, DamageMeansCompiling) {
  put("sm_80", "ready");
  for (const auto& file : fs::directory_iterator(precompiled_folder() / "sm_80")) {
    fs::resize_file(file, fs::file_size(file) - 1);
  }
  EXPECT_EQ(load_or_compile(spec, "sm_80"), image);
}

TEST_F(PrecompiledSet, NeedsNoCompiler) {
  replace_compiler_for_testing(nullptr);
  const test::ScopedVariable no_nvrtc("QUIRE_NVRTC", "/nonexistent/libnvrtc.so");
  put("sm_80", "ready");
  EXPECT_EQ(load_or_compile(spec, "sm_80"), "ready");
  EXPECT_THROW(load_or_compile(spec, "sm_90a"), Error);
}

}  // namespace
}  // namespace quire::jit
