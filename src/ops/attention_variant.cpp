#include "ops/attention_variant.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "quire/error.h"

namespace quire {
namespace {

constexpr const char* kPlan = "attention.plan";
constexpr const char* kRun = "attention.run";
constexpr std::size_t kMaxNameLength = 64;

using Arguments = std::vector<AttentionVariant::Argument>;

// Words that C++20 keeps for itself.
constexpr std::string_view kKeywords[] = {"alignas",       "alignof",     "and",
                                          "and_eq",        "asm",         "auto",
                                          "bitand",        "bitor",       "bool",
                                          "break",         "case",        "catch",
                                          "char",          "char16_t",    "char32_t",
                                          "char8_t",       "class",       "co_await",
                                          "co_return",     "co_yield",    "compl",
                                          "concept",       "const",       "const_cast",
                                          "consteval",     "constexpr",   "constinit",
                                          "continue",      "decltype",    "default",
                                          "delete",        "do",          "double",
                                          "dynamic_cast",  "else",        "enum",
                                          "explicit",      "export",      "extern",
                                          "false",         "float",       "for",
                                          "friend",        "goto",        "if",
                                          "inline",        "int",         "long",
                                          "mutable",       "namespace",   "new",
                                          "noexcept",      "not",         "not_eq",
                                          "nullptr",       "operator",    "or",
                                          "or_eq",         "private",     "protected",
                                          "public",        "register",    "reinterpret_cast",
                                          "requires",      "return",      "short",
                                          "signed",        "sizeof",      "static",
                                          "static_assert", "static_cast", "struct",
                                          "switch",        "template",    "this",
                                          "thread_local",  "throw",       "true",
                                          "try",           "typedef",     "typeid",
                                          "typename",      "union",       "unsigned",
                                          "using",         "virtual",     "void",
                                          "volatile",      "wchar_t",     "while",
                                          "xor",           "xor_eq"};

bool is_identifier(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameLength) return false;
  const auto is_letter = [](char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!is_letter(name.front())) return false;
  return std::ranges::all_of(name, [&](char c) { return is_letter(c) || is_digit(c); });
}

void check_identifier(std::string_view argument, std::string_view name) {
  if (is_identifier(name) && name.find("__") == name.npos && name != "quire_values" &&
      std::ranges::find(kKeywords, name) == std::end(kKeywords)) {
    return;
  }
  check::fail(kPlan, argument, fmt::format("\"{}\"", name),
              fmt::format("a C++ identifier of at most {} characters, without a double underscore",
                          kMaxNameLength));
}

void check_declared(std::string_view argument, const Arguments& declared, int most,
                    std::initializer_list<DType> dtypes) {
  if (declared.size() > static_cast<std::size_t>(most)) {
    check::fail(kPlan, argument, fmt::format("{}", declared.size()),
                fmt::format("at most {}", most));
  }
  for (const AttentionVariant::Argument& each : declared) {
    check_identifier(argument, each.name);
    const std::string name = fmt::format("{}.{}", argument, each.name);
    const TensorView scalar{.dtype = each.dtype};
    check::dtype({kPlan, name, scalar}, dtypes);
  }
}

void check_no_name_twice(const AttentionVariant& variant) {
  std::vector<std::string_view> names;
  for (const Arguments* arguments : {&variant.tensors, &variant.scalars}) {
    for (const AttentionVariant::Argument& each : *arguments) {
      if (std::ranges::find(names, each.name) != names.end()) {
        check::fail(kPlan, "variant", fmt::format("two arguments called \"{}\"", each.name),
                    "a name of its own for each");
      }
      names.push_back(each.name);
    }
  }
}

void check_count(std::string_view argument, std::size_t got, const Arguments* declared) {
  const std::size_t expected = declared ? declared->size() : 0;
  if (got == expected) return;
  std::string names;
  for (std::size_t i = 0; i < expected; ++i) {
    names += fmt::format("{}{}", i == 0 ? ": " : ", ", (*declared)[i].name);
  }
  check::fail(kRun, argument, fmt::format("{}", got),
              declared ? fmt::format("{}, as the planned variant declares{}", expected, names)
                       : "none: the plan has no variant");
}

void check_scalar(const AttentionVariant::Argument& declared, double value) {
  const std::string name = fmt::format("variant_scalars.{}", declared.name);
  if (declared.dtype == DType::i32) {
    using Limits = std::numeric_limits<std::int32_t>;
    if (value >= Limits::min() && value <= Limits::max() && value == std::trunc(value)) return;
    check::fail(kRun, name, fmt::format("{}", value), "a whole number of 32 bits");
  }
  if (std::isnan(value)) check::fail(kRun, name, "nan", "a number");
}

}  // namespace

void check_variant(const AttentionVariant& variant, Device device) {
  check_identifier("variant.name", variant.name);
  if (variant.source.empty()) check::fail(kPlan, "variant.source", "an empty text", "C++ code");
  check_declared("variant.tensors", variant.tensors, kernels::kMaxVariantTensors,
                 {DType::f32, DType::f16, DType::bf16, DType::i32, DType::u8});
  check_declared("variant.scalars", variant.scalars, kernels::kMaxVariantScalars,
                 {DType::f32, DType::i32});
  check_no_name_twice(variant);
  if (device.is_cuda()) return;
  check::fail(kPlan, "variant", fmt::format("\"{}\" on {}", variant.name, to_string(device)),
              "a CUDA device: the snippet is compiled into a GPU kernel",
              ErrorCode::not_implemented);
}

void check_same_variant(const AttentionVariant* got, const AttentionVariant* expected) {
  const auto same = [](const Arguments& a, const Arguments& b) {
    return std::ranges::equal(
        a, b, [](const auto& x, const auto& y) { return x.name == y.name && x.dtype == y.dtype; });
  };
  if (got == nullptr && expected == nullptr) return;
  if (got && expected && got->name == expected->name && got->source == expected->source &&
      got->softmax == expected->softmax && same(got->tensors, expected->tensors) &&
      same(got->scalars, expected->scalars)) {
    return;
  }
  const std::string wanted =
      expected ? fmt::format("\"{}\" with the same source and arguments", expected->name) : "none";
  check::fail(kPlan, "variant", got ? fmt::format("\"{}\"", got->name) : "none",
              wanted + ", as reserved");
}

void check_variant_values(const AttentionVariant* variant, const AttentionOptions& options,
                          bool with_lse, const check::Arg& like) {
  check_count("variant_tensors", options.variant_tensors.size(),
              variant ? &variant->tensors : nullptr);
  check_count("variant_scalars", options.variant_scalars.size(),
              variant ? &variant->scalars : nullptr);
  if (variant == nullptr) return;
  for (std::size_t i = 0; i < variant->tensors.size(); ++i) {
    const std::string name = fmt::format("variant_tensors.{}", variant->tensors[i].name);
    const check::Arg arg{kRun, name, options.variant_tensors[i]};
    check::dtype(arg, {variant->tensors[i].dtype});
    check::device(arg, like);
    check::contiguous(arg);
    check::memory(arg);
  }
  for (std::size_t i = 0; i < variant->scalars.size(); ++i) {
    check_scalar(variant->scalars[i], options.variant_scalars[i]);
  }
  if (variant->softmax) return;
  const std::string none = fmt::format("none: variant \"{}\" has no softmax", variant->name);
  if (with_lse) check::fail(kRun, "lse", "a tensor", none);
  if (options.sinks) check::fail(kRun, "sinks", "a tensor", none);
}

kernels::VariantValues variant_values(const AttentionVariant& variant,
                                      const AttentionOptions& options) {
  kernels::VariantValues values{};
  for (std::size_t i = 0; i < variant.tensors.size(); ++i) {
    values.tensors[i] = options.variant_tensors[i].data;
  }
  for (std::size_t i = 0; i < variant.scalars.size(); ++i) {
    const double value = options.variant_scalars[i];
    values.scalars[i] = variant.scalars[i].dtype == DType::i32
                            ? std::bit_cast<std::uint32_t>(static_cast<std::int32_t>(value))
                            : std::bit_cast<std::uint32_t>(static_cast<float>(value));
  }
  return values;
}

}  // namespace quire
