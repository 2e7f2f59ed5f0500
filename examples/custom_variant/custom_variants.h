// Five attentions of one's own, each a snippet of C++ and the same thing in double to compare with.
#pragma once

#include <functional>
#include <vector>

#include "quire/quire.h"

namespace custom_variant {

struct Example {
  quire::AttentionVariant variant;
  std::vector<float> tensor;  // values of the variant's tensor, when it has one
  std::vector<double> scalars;
  std::vector<float> sinks;  // an option of every run, variant or not; empty: none
  std::function<double(int head, int distance, double score)> logits;
  std::function<bool(int kv_token, int distance)> visible;  // distance: kv token - row's position
};

Example alibi();          // a slope for each head
Example soft_cap();       // cap * tanh(score / cap)
Example sigmoid();        // no softmax: every token has a weight of its own
Example learned_sink();   // soft cap, and a logit for each head that takes probability away
Example global_window();  // a sliding window that always sees the first tokens

std::vector<Example> all_examples();

// Runs it causally on a CUDA device; returns the largest difference to the same in double.
double largest_difference(const Example& example, quire::Device device);

}  // namespace custom_variant
