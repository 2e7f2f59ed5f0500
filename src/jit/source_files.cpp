#include "jit/source_files.h"

#include <algorithm>
#include <optional>

namespace quire::jit {
namespace {

std::optional<EmbeddedSource> find_source(const KernelSpec& spec, std::string_view path) {
  for (const VirtualHeader& header : spec.extra_headers) {
    if (header.name == path) return EmbeddedSource{header.name, header.text};
  }
  for (const EmbeddedSource& source : embedded_sources()) {
    if (source.path == path) return source;
  }
  return std::nullopt;
}

// Names in #include "…" lines.
std::vector<std::string_view> included_names(std::string_view text) {
  constexpr std::string_view kInclude = "#include \"";
  std::vector<std::string_view> names;
  for (std::size_t at = text.find(kInclude); at != text.npos; at = text.find(kInclude, at)) {
    at += kInclude.size();
    names.push_back(text.substr(at, text.find('"', at) - at));
  }
  return names;
}

}  // namespace

std::vector<EmbeddedSource> reachable_sources(const KernelSpec& spec) {
  std::vector<EmbeddedSource> sources;
  const std::string unit = generate_source(spec);
  std::vector<std::string_view> waiting = included_names(unit);
  while (!waiting.empty()) {
    const std::string_view path = waiting.back();
    waiting.pop_back();
    if (std::ranges::find(sources, path, &EmbeddedSource::path) != sources.end()) continue;
    const auto source = find_source(spec, path);
    if (!source) continue;
    sources.push_back(*source);
    for (const std::string_view name : included_names(source->text)) waiting.push_back(name);
  }
  return sources;
}

}  // namespace quire::jit
