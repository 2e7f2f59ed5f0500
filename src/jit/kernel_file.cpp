#include "jit/kernel_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>

#include "core/log.h"
#include "jit/hash.h"
#include "quire/error.h"

namespace quire::jit {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormat = "quire-kernel 1\n";

std::string header_text(const KernelFile& file) {
  return fmt::format("{}key {}\ncompiler {}\nbytes {}\nhash {}\n\n", kFormat, file.key,
                     file.compiler, file.image.size(),
                     hash_hex({file.key, file.compiler, file.image}));
}

// "name value\n" at the front of `text`, taken off it.
std::optional<std::string> take_line(std::string_view& text, std::string_view name) {
  const std::size_t end = text.find('\n');
  if (end == text.npos || !text.starts_with(name) || end < name.size()) return std::nullopt;
  const std::string value(text.substr(name.size(), end - name.size()));
  text.remove_prefix(end + 1);
  return value;
}

std::optional<KernelFile> parse(std::string_view bytes) {
  std::string_view rest = bytes;
  if (!rest.starts_with(kFormat)) return std::nullopt;
  rest.remove_prefix(kFormat.size());
  const auto key = take_line(rest, "key ");
  const auto compiler = take_line(rest, "compiler ");
  if (!key || !compiler || !take_line(rest, "bytes ") || !take_line(rest, "hash ") ||
      !take_line(rest, "")) {
    return std::nullopt;
  }
  KernelFile file{*key, *compiler, std::string(rest)};
  // The header is a function of the content: a whole file has exactly this one.
  const std::string expected = header_text(file);
  if (!bytes.starts_with(expected)) return std::nullopt;
  return file;
}

[[noreturn]] void fail(const fs::path& path, const char* what) {
  throw Error(ErrorCode::io, fmt::format("kernel file: {}: got \"{}\", expected to {} it",
                                         path.string(), std::strerror(errno), what));
}

void write_all(int descriptor, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail(path, "write");
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

// A temporary file that disappears unless it is renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(const fs::path& target) {
    std::random_device random;
    path_ = target.parent_path() /
            fmt::format(".{}.{}.{:08x}.tmp", target.filename().string(), ::getpid(), random());
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail(path_, "create");
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!renamed_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::string_view bytes) { write_all(descriptor_, bytes, path_); }

  void rename_to(const fs::path& target) {
    // Some file systems report a full disk only here.
    const int result = ::close(descriptor_);
    descriptor_ = -1;
    if (result != 0) fail(path_, "close");
    if (::rename(path_.c_str(), target.c_str()) != 0) fail(target, "rename");
    renamed_ = true;
  }

 private:
  fs::path path_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

}  // namespace

std::optional<KernelFile> read_kernel_file(const fs::path& path, const std::string& key) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    std::error_code error;
    if (fs::exists(path, error)) {
      log::write(log::Level::error, fmt::format("{} cannot be read: ignored", path.string()));
    }
    return std::nullopt;
  }
  // Unlike an iterator over the buffer, this does not throw when `path` turns out to be a folder.
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  auto file = parse(bytes.view());
  if (!file || file->key != key) {
    log::write(log::Level::error, fmt::format("{} is {}: ignored", path.string(),
                                              file ? "of another kernel" : "damaged"));
    return std::nullopt;
  }
  return file;
}

void write_kernel_file(const fs::path& path, const KernelFile& file) {
  TemporaryFile temporary(path);
  temporary.write(header_text(file));
  temporary.write(file.image);
  temporary.rename_to(path);
}

}  // namespace quire::jit
