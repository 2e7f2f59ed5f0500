// Attentions of one's own, on the first CUDA device.
#include <cstdio>

#include "custom_variants.h"

int main() {
  if (quire::num_cuda_devices() == 0) {
    std::puts("no CUDA device: variants are compiled into GPU kernels");
    return 0;
  }
  try {
    for (const custom_variant::Example& example : custom_variant::all_examples()) {
      const double difference = custom_variant::largest_difference(example, quire::cuda_device(0));
      std::printf("%-14s %s largest difference to double %.4f\n", example.variant.name.c_str(),
                  example.sinks.empty() ? "           " : "with sinks:", difference);
      if (!(difference < 0.02)) return 1;
    }
  } catch (const quire::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
