#include "cuda/attention_variant.h"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace quire::cuda {
namespace {

std::string_view element_type(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::u8:
      return "u8";
    default:
      return "float";
  }
}

// struct Arguments: what the snippet sees of VariantValues.
std::string arguments_struct(const AttentionVariant& variant) {
  std::string members, initializers;
  const auto add = [&](std::string_view type, std::string_view name, const std::string& value) {
    members += fmt::format("  {} {};\n", type, name);
    initializers += fmt::format("{}{}({})", initializers.empty() ? " : " : ", ", name, value);
  };
  for (std::size_t i = 0; i < variant.tensors.size(); ++i) {
    const std::string type = fmt::format("const {}*", element_type(variant.tensors[i].dtype));
    add(type, variant.tensors[i].name,
        fmt::format("static_cast<{}>(quire_values.tensors[{}])", type, i));
  }
  for (std::size_t i = 0; i < variant.scalars.size(); ++i) {
    const std::string_view type = element_type(variant.scalars[i].dtype);
    add(type, variant.scalars[i].name,
        fmt::format("__builtin_bit_cast({}, quire_values.scalars[{}])", type, i));
  }
  return fmt::format(
      "struct Arguments {{\n{}  explicit Arguments([[maybe_unused]] const VariantValues& "
      "quire_values){} {{}}\n}};\n",
      members, initializers);
}

}  // namespace

void add_variant(jit::KernelSpec& spec, const AttentionVariant& variant) {
  const std::string snippet = fmt::format("variants/{}.h", variant.name);
  const std::string kernel =
      std::exchange(spec.header, fmt::format("variants/{}_kernel.cuh", variant.name));
  const auto include = [](std::string_view name) { return fmt::format("#include \"{}\"\n", name); };
  std::string text = include("attention/variant.h") +
                     "namespace quire::kernels::custom_variant {\n"
                     "using namespace quire::tile;\n" +
                     arguments_struct(variant) + include(snippet) +
                     "}  // namespace quire::kernels::custom_variant\n"
                     "namespace quire::kernels {\n"
                     "template <>\n"
                     "struct VariantSource<VariantKind::custom> {\n"
                     "  using Arguments = custom_variant::Arguments;\n"
                     "  using Variant = custom_variant::Variant;\n"
                     "};\n"
                     "}  // namespace quire::kernels\n" +
                     include(kernel);
  spec.extra_headers.push_back({spec.header, std::move(text)});
  spec.extra_headers.push_back({snippet, variant.source + "\n"});
  spec.name += "_" + variant.name;
}

}  // namespace quire::cuda
