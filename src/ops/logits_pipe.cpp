#include "quire/logits_pipe.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"

namespace quire {
namespace {

constexpr const char* kOp = "LogitsPipe";
constexpr const char* kStageNames[] = {"processors", "temperature", "softmax", "top_k",
                                       "top_p",      "min_p",       "sample"};
constexpr const char* kDataNames[] = {"logits", "probs", "ids"};

const char* name(PipeStage stage) { return kStageNames[static_cast<int>(stage)]; }
const char* name(PipeData data) { return kDataNames[static_cast<int>(data)]; }

// What a stage makes of its input; an error when it does not take it.
PipeData output_of(PipeStage stage, PipeData from) {
  const bool logits = from == PipeData::logits, probs = from == PipeData::probs;
  const auto refuse = [&](const char* expected) {
    check::fail(kOp, "stages", fmt::format("{} of {}", name(stage), name(from)), expected);
  };
  switch (stage) {
    case PipeStage::processors:
    case PipeStage::temperature:
      if (!logits) refuse("logits before it");
      return PipeData::logits;
    case PipeStage::softmax:
      if (!logits) refuse("logits before it");
      return PipeData::probs;
    case PipeStage::top_k:
      if (!logits && !probs) refuse("logits or probs before it");
      return from;
    case PipeStage::top_p:
    case PipeStage::min_p:
      if (!probs) refuse("probs before it");
      return PipeData::probs;
    case PipeStage::sample:
      if (!logits && !probs) refuse("logits or probs before it");
      return PipeData::ids;
  }
  return from;
}

}  // namespace

const char* LogitsPipe::Pass::op() const {
  if (to == PipeData::ids) {
    if (has(PipeStage::processors)) return "sample_processed";
    return from == PipeData::logits ? "sample_from_logits" : "filtered_sample";
  }
  if (from == PipeData::probs) return "renorm_probs";
  if (to == PipeData::probs) return "softmax";
  return has(PipeStage::top_k) ? "top_k_mask_logits" : "apply_logits_processors";
}

// One pass that means the same as these stages, if there is one.
std::optional<LogitsPipe::Pass> LogitsPipe::joined(std::span<const PipeStage> stages, PipeData from,
                                                   PipeData to) {
  using enum PipeStage;
  Pass pass{.from = from, .to = to};
  bool fits = true;
  for (const PipeStage stage : stages) {
    fits = fits && !(stage == top_p && pass.has(min_p));  // the nucleus of what min-p keeps
    fits = fits && !(stage == processors && pass.stages != 0);
    if (stage == top_k && pass.has(top_p)) pass.order = FilterOrder::joint;
    pass.stages |= static_cast<std::uint8_t>(1u << static_cast<int>(stage));
  }
  if (stages.size() == 1) return pass;
  // All filters are an argument of the draw, and of the renormalisation; before probabilities and
  // logits there is less.
  if (to == PipeData::probs && from == PipeData::logits) {
    fits = stages.size() == 2 && stages[0] == temperature;
  } else if (to == PipeData::logits) {
    fits = stages.size() == 2 && stages[0] == processors && stages[1] == temperature;
  }
  return fits ? std::optional(pass) : std::nullopt;
}

LogitsPipe::LogitsPipe(std::span<const PipeStage> stages, PipeData input, bool fused)
    : input_(input) {
  if (stages.empty()) check::fail(kOp, "stages", "none", "one or more");
  if (input == PipeData::ids) check::fail(kOp, "input", "ids", "logits or probs");
  std::vector<PipeStage> order(stages.begin(), stages.end());
  std::vector<PipeData> data = {input};  // before every stage, and after the last
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (std::ranges::count(order, order[i]) > 1) {
      check::fail(kOp, "stages", fmt::format("{} more than once", name(order[i])), "once at most");
    }
    data.push_back(output_of(order[i], data[i]));
  }
  // The largest logits stay the largest at any temperature, which a softmax or draw takes.
  for (std::size_t i = 0; fused && i + 2 < order.size(); ++i) {
    if (order[i] == PipeStage::temperature && order[i + 1] == PipeStage::top_k) {
      std::swap(order[i], order[i + 1]);
    }
  }
  // The longest runs from the end, where the draw is.
  for (std::size_t end = order.size(); end > 0;) {
    std::size_t start = fused ? 0 : end - 1;
    std::optional<Pass> pass;
    for (; !pass; ++start) {
      pass = joined(std::span(order).subspan(start, end - start), data[start], data[end]);
    }
    passes_.insert(passes_.begin(), *pass);
    end = start - 1;
  }
}

PipeData LogitsPipe::output() const { return passes_.back().to; }

bool LogitsPipe::needs_logits_scratch() const {
  return std::ranges::any_of(passes_, [&](const Pass& pass) {
    return (pass.to == PipeData::logits && output() != PipeData::logits) ||
           (pass.to == PipeData::ids && pass.has(PipeStage::processors));
  });
}

bool LogitsPipe::needs_probs_scratch() const {
  return output() == PipeData::ids &&
         std::ranges::any_of(passes_, [](const Pass& p) { return p.to == PipeData::probs; });
}

std::string LogitsPipe::passes() const {
  std::vector<std::string> texts;
  for (const Pass& pass : passes_) {
    std::vector<const char*> arguments;
    for (const PipeStage stage : {PipeStage::processors, PipeStage::temperature, PipeStage::top_k,
                                  PipeStage::top_p, PipeStage::min_p}) {
      if (pass.has(stage)) arguments.push_back(name(stage));
    }
    if (pass.order == FilterOrder::joint) arguments.push_back("joint");
    texts.push_back(fmt::format("{}({})", pass.op(), fmt::join(arguments, ", ")));
  }
  return fmt::format("{}", fmt::join(texts, " -> "));
}

// The arguments of a pass: as they are, or, for its checks alone, none of the rows of tensors that
// must have `rows` of them.
struct LogitsPipe::Call {
  const PipeArguments& arguments;
  Stream stream;
  bool checks_only;
  const char* op;
  std::int64_t rows;

  TensorView tensor(std::string_view argument, const TensorView& tensor) const {
    if (!checks_only) return tensor;
    const check::Arg arg{op, argument, tensor};
    check::rank_at_least(arg, 1);
    check::dim(arg, 0, rows, "rows");
    return tensor.slice(0, 0, 0);
  }
  void cut(std::string_view argument, std::optional<TensorView>& value) const {
    if (value) value = tensor(argument, *value);
  }
  template <class T>
  PerRow<T> per_row(std::string_view argument, PerRow<T> value) const {
    cut(argument, value.tensor);
    return value;
  }

  TokenFilter filter(const Pass& pass) const {
    TokenFilter filter{.order = pass.order};
    if (pass.has(PipeStage::top_k)) filter.top_k = per_row("top_k", arguments.top_k);
    if (pass.has(PipeStage::top_p)) filter.top_p = per_row("top_p", arguments.top_p);
    if (pass.has(PipeStage::min_p)) filter.min_p = per_row("min_p", arguments.min_p);
    return filter;
  }
  PerRow<float> temperature(const Pass& pass) const {
    if (!pass.has(PipeStage::temperature)) return 1.f;
    return per_row("temperature", arguments.temperature);
  }
  SamplingOptions sampling() const {
    SamplingOptions options = arguments.sampling;
    options.seed = per_row("seed", options.seed);
    options.offset = per_row("offset", options.offset);
    cut("indices", options.indices);
    cut("valid", options.valid);
    cut("log_probs", options.log_probs);
    return options;
  }
  // But for their temperature.
  LogitsProcessors processors() const {
    LogitsProcessors processors = arguments.processors;
    cut("bias_ids", processors.bias_ids);
    cut("bias_values", processors.bias_values);
    cut("prompt_mask", processors.prompt_mask);
    cut("output_counts", processors.output_counts);
    cut("allowed_mask", processors.allowed_mask);
    processors.repetition_penalty = per_row("repetition_penalty", processors.repetition_penalty);
    processors.presence_penalty = per_row("presence_penalty", processors.presence_penalty);
    processors.frequency_penalty = per_row("frequency_penalty", processors.frequency_penalty);
    return processors;
  }
};

// All of a call has the rows of `in`, but for a draw from other rows than all in order.
void LogitsPipe::run_pass(const Pass& pass, const TensorView& in, const TensorView& out,
                          const Call& call) {
  const bool draws = pass.to == PipeData::ids;
  Call of_input = call;
  of_input.op = pass.op();
  of_input.rows = in.rank > 0 ? in.shape[0] : 0;
  Call of_output = of_input;
  const std::optional<TensorView>& indices = call.arguments.sampling.indices;
  if (draws && indices && indices->rank > 0) of_output.rows = indices->shape[0];
  const TensorView from = of_input.tensor("in", in), to = of_output.tensor("out", out);
  if (draws && pass.has(PipeStage::processors)) {
    LogitsProcessors processors = of_input.processors();
    processors.temperature = of_output.temperature(pass);
    const TensorView scratch = of_input.tensor("logits_scratch", *call.arguments.logits_scratch);
    sample_processed(from, scratch, to, processors, of_output.filter(pass), of_output.sampling(),
                     call.stream);
  } else if (draws && pass.from == PipeData::logits) {
    sample_from_logits(from, to, of_output.filter(pass), of_output.temperature(pass),
                       of_output.sampling(), call.stream);
  } else if (draws) {
    filtered_sample(from, to, of_output.filter(pass), of_output.sampling(), call.stream);
  } else if (pass.from == PipeData::probs) {
    renorm_probs(from, to, of_input.filter(pass), call.stream);
  } else if (pass.to == PipeData::probs) {
    softmax(from, to, of_input.temperature(pass), call.stream);
  } else if (pass.has(PipeStage::top_k)) {
    top_k_mask_logits(from, to, of_input.filter(pass).top_k, call.stream);
  } else {
    LogitsProcessors processors;
    if (pass.has(PipeStage::processors)) processors = of_input.processors();
    processors.temperature = of_input.temperature(pass);
    if (!processors.temperature.tensor && processors.temperature.value == 0) {
      check::fail(kOp, "temperature", "0", "above 0 where no softmax or draw takes it");
    }
    apply_logits_processors(from, to, processors, call.stream);
  }
}

void LogitsPipe::run(const TensorView& in, const TensorView& out, const PipeArguments& arguments,
                     Stream stream) const {
  const auto check_scratch = [](const char* argument, bool needed, const auto& scratch) {
    if (needed && !scratch) check::fail(kOp, argument, "none", "a tensor of the input's shape");
  };
  check_scratch("logits_scratch", needs_logits_scratch(), arguments.logits_scratch);
  check_scratch("probs_scratch", needs_probs_scratch(), arguments.probs_scratch);
  // Every check of every pass comes before the first pass.
  for (const bool checks_only : {true, false}) {
    if (checks_only && passes_.size() == 1) continue;
    TensorView from = in;
    for (const Pass& pass : passes_) {
      const TensorView& to = pass.to == output()           ? out
                             : pass.to == PipeData::logits ? *arguments.logits_scratch
                                                           : *arguments.probs_scratch;
      run_pass(pass, from, to, {arguments, stream, checks_only, kOp, 0});
      from = to;
    }
  }
}

}  // namespace quire
