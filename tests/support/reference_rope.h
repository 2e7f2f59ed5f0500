// Rotary position embedding in double, from its definitions.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "quire/rope.h"
#include "support/test_tensor.h"

namespace quire::test {

// As the authors' code has it: a ramp over pair indices, between the pairs that turn beta_fast and
// beta_slow times.
inline double reference_yarn(double frequency, int i, int rotary_dim, const RopeOptions& options) {
  const auto dim_of = [&](double rotations) {
    return rotary_dim *
           std::log(options.yarn->original_context_len / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(static_cast<double>(options.rope_theta)));
  };
  const double low = std::max(0.0, std::floor(dim_of(options.yarn->beta_fast)));
  const double high = std::min(rotary_dim - 1.0, std::ceil(dim_of(options.yarn->beta_slow)));
  const double ramp = std::clamp((i - low) / (high == low ? 0.001 : high - low), 0.0, 1.0);
  return frequency / options.rope_scale * ramp + frequency * (1 - ramp);
}

inline double reference_attention_factor(const RopeOptions& options) {
  if (!options.yarn) return 1;
  if (options.yarn->attention_factor > 0) return options.yarn->attention_factor;
  return 0.1 * std::log(static_cast<double>(options.rope_scale)) + 1;
}

// Frequencies by their definitions, in double.
inline std::vector<double> reference_frequencies(int rotary_dim, const RopeOptions& options) {
  std::vector<double> result;
  for (int i = 0; i < rotary_dim / 2; ++i) {
    if (options.ntk) {
      const double theta =
          options.rope_theta * std::pow(options.rope_scale, rotary_dim / (rotary_dim - 2.0));
      result.push_back(1 / std::pow(theta, 2.0 * i / rotary_dim));
      continue;
    }
    const double frequency = 1 / std::pow(options.rope_theta, 2.0 * i / rotary_dim);
    if (options.yarn) {
      result.push_back(reference_yarn(frequency, i, rotary_dim, options));
      continue;
    }
    if (!options.llama31) {
      result.push_back(frequency / options.rope_scale);
      continue;
    }
    const Llama31Rope& l = *options.llama31;
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength > l.old_context_len / l.low_freq_factor) {
      result.push_back(frequency / options.rope_scale);
    } else if (wavelength < l.old_context_len / l.high_freq_factor) {
      result.push_back(frequency);
    } else {
      const double smooth = (l.old_context_len / wavelength - l.low_freq_factor) /
                            (l.high_freq_factor - l.low_freq_factor);
      result.push_back((1 - smooth) * frequency / options.rope_scale + smooth * frequency);
    }
  }
  return result;
}

inline std::vector<double> reference_rope(const std::vector<double>& x, const Shape& shape,
                                          const std::vector<double>& positions,
                                          const RopeOptions& options) {
  const int head_dim = static_cast<int>(shape[2]);
  const int rotary_dim = options.rotary_dim == 0 ? head_dim : options.rotary_dim;
  const std::vector<double> frequencies = reference_frequencies(rotary_dim, options);
  std::vector<double> out = x;
  for (std::size_t row = 0; row * head_dim < x.size(); ++row) {
    const double position = positions[row / shape[1]];
    for (int i = 0; i < rotary_dim / 2; ++i) {
      const std::size_t a = row * head_dim + (options.interleave ? 2 * i : i);
      const std::size_t b = row * head_dim + (options.interleave ? 2 * i + 1 : i + rotary_dim / 2);
      const double length = reference_attention_factor(options);
      const double cosine = length * std::cos(position * frequencies[i]);
      const double sine = length * std::sin(position * frequencies[i]);
      out[a] = x[a] * cosine - x[b] * sine;
      out[b] = x[b] * cosine + x[a] * sine;
    }
  }
  return out;
}

}  // namespace quire::test
