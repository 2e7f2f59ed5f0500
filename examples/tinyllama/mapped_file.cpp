#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "quire/quire.h"

namespace tinyllama {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, int error) {
  throw quire::Error(quire::ErrorCode::io,
                     path.string() + ": " + std::generic_category().message(error));
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(path, errno);
  struct stat status{};
  const int failed = ::fstat(file, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : 0;
  size_ = static_cast<std::size_t>(status.st_size);
  void* mapped = nullptr;
  if (!failed && size_ > 0) mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
  const int error = mapped == MAP_FAILED ? errno : failed;
  ::close(file);
  if (error) fail(path, error);
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace tinyllama
