// Normalisations in double, from their definitions. input: rows of weight.size() elements.
#pragma once

#include <cmath>
#include <vector>

namespace quire::test {

inline std::vector<double> reference_rms_norm(const std::vector<double>& input,
                                              const std::vector<double>& weight, double eps,
                                              double weight_bias = 0) {
  const std::size_t hidden = weight.size();
  std::vector<double> out(input.size());
  for (std::size_t row = 0; row < input.size(); row += hidden) {
    double sum = 0;
    for (std::size_t i = 0; i < hidden; ++i) sum += input[row + i] * input[row + i];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(hidden) + eps);
    for (std::size_t i = 0; i < hidden; ++i) {
      out[row + i] = input[row + i] * scale * (weight[i] + weight_bias);
    }
  }
  return out;
}

inline std::vector<double> reference_layer_norm(const std::vector<double>& input,
                                                const std::vector<double>& gamma,
                                                const std::vector<double>& beta, double eps) {
  const std::size_t hidden = gamma.size();
  const auto size = static_cast<double>(hidden);
  std::vector<double> out(input.size());
  for (std::size_t row = 0; row < input.size(); row += hidden) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < hidden; ++i) mean += input[row + i] / size;
    for (std::size_t i = 0; i < hidden; ++i) variance += std::pow(input[row + i] - mean, 2) / size;
    for (std::size_t i = 0; i < hidden; ++i) {
      out[row + i] = (input[row + i] - mean) / std::sqrt(variance + eps) * gamma[i] + beta[i];
    }
  }
  return out;
}

}  // namespace quire::test
