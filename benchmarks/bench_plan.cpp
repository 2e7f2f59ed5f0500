// How long planning takes on the host: the planner alone, and BatchAttention::plan on a device.
//
//   bench_plan [device]     device: cpu (default) or cuda:N
//
// Medians over 301 plans of different lengths each, as a serving loop has them: in microseconds.
// On CUDA also the kernel of plan_on_device, mean of 301 in a row.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "plan/planner.h"
#include "quire/attention.h"

namespace {

using namespace quire;
using Lens = std::vector<std::int32_t>;

constexpr int kRounds = 301, kPageSize = 16, kHeadDim = 128;

struct Case {
  const char* name;
  int decodes, prefills, prefill_len;
  int group_size, num_kv_heads;
  plan::AttentionTile tile;  // what an H100 has for it
};

constexpr plan::AttentionTile kDecode{
    .num_workers = 132, .tile_q = 8, .tile_kv = 16, .cached_tokens = 24000, .merges_itself = true};

constexpr Case kCases[] = {
    {"64 decodes", 64, 0, 0, 4, 8, kDecode},
    {"1024 decodes", 1024, 0, 0, 4, 8, kDecode},
    {"1024 decodes, 3 blocks an SM", 1024, 0, 0, 4, 8, {396, 16, 64, 24000}},  // attention_sm80
    {"4096 decodes", 4096, 0, 0, 4, 8, kDecode},
    {"8 x 1024 prefill", 0, 8, 1024, 4, 8, {132, 128, 128, 24000}},
    {"1 x 32768 prefill", 0, 1, 32768, 4, 8, {132, 128, 128, 24000}},
    {"256 decodes, 2 x 1024 prefill", 256, 2, 1024, 4, 8, {132, 64, 128, 24000}},
    {"4 decodes, 2048 prefill, 1 KV head", 4, 1, 2048, 8, 1, {132, 128, 128, 24000}},
    {"20 decodes, 2048 prefill, 1 KV head", 20, 1, 2048, 8, 1, {132, 128, 128, 24000}},
};

// Lengths mixed as in conversations: many short, few long.
void draw(const Case& c, std::mt19937& random, Lens& qo, Lens& kv) {
  std::lognormal_distribution<double> length(7, 1);
  qo.clear();
  kv.clear();
  for (int i = 0; i < c.decodes + c.prefills; ++i) {
    const auto context = static_cast<std::int32_t>(std::clamp(length(random), 16.0, 32768.0));
    qo.push_back(i < c.decodes ? 1 : c.prefill_len);
    kv.push_back(i < c.decodes ? context : c.prefill_len);
  }
}

double median_us(std::vector<double>& times) {
  std::ranges::nth_element(times, times.begin() + kRounds / 2);
  return times[kRounds / 2];
}

template <class Work>
double timed_us(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

double planner_us(const Case& c) {
  plan::AttentionPlanner planner;
  std::vector<kernels::WorkItem> items;
  std::vector<std::int32_t> indptr(static_cast<std::size_t>(c.tile.num_workers) + 1);
  std::vector<kernels::MergeItem> merges;
  std::mt19937 random(1);
  Lens qo, kv;
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    draw(c, random, qo, kv);
    const plan::AttentionProblem problem{.qo_lens = qo,
                                         .kv_lens = kv,
                                         .group_size = c.group_size,
                                         .num_kv_heads = c.num_kv_heads,
                                         .causal = c.prefills > 0};
    times.push_back(timed_us([&] {
      const plan::AttentionPlanSize size = planner.prepare(problem, c.tile);
      items.resize(static_cast<std::size_t>(size.num_items));
      merges.resize(static_cast<std::size_t>(size.num_merges));
      planner.write(problem, {items.data(), indptr.data(), merges.data()});
    }));
  }
  return median_us(times);
}

TensorView ints(const Lens& values) {
  return {.data = const_cast<std::int32_t*>(values.data()),
          .dtype = DType::i32,
          .device = kCpu,
          .rank = 1,
          .shape = {static_cast<std::int64_t>(values.size())},
          .strides = {1}};
}

double engine_us(const Case& c, Device device) {
  BatchAttention engine(device);
  const AttentionShape shape{.num_qo_heads = c.num_kv_heads * c.group_size,
                             .num_kv_heads = c.num_kv_heads,
                             .head_dim_qk = kHeadDim,
                             .head_dim_vo = kHeadDim,
                             .page_size = kPageSize};
  std::mt19937 random(1);
  Lens qo, kv, qo_indptr, indptr, last, pages;
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    draw(c, random, qo, kv);
    qo_indptr.assign(1, 0);
    indptr.assign(1, 0);
    last.clear();
    for (std::size_t r = 0; r < qo.size(); ++r) {
      qo_indptr.push_back(qo_indptr.back() + qo[r]);
      indptr.push_back(indptr.back() + (kv[r] + kPageSize - 1) / kPageSize);
      last.push_back((kv[r] + kPageSize - 1) % kPageSize + 1);
    }
    pages.assign(static_cast<std::size_t>(indptr.back()), 7);
    times.push_back(timed_us([&] {
      engine.plan(shape, ints(qo_indptr), {ints(indptr), ints(pages), ints(last)},
                  {.causal = c.prefills > 0});
    }));
  }
  synchronize(device);
  return median_us(times);
}

double device_plan_us(const Case& c, Device device) {
  const AttentionShape shape{.num_qo_heads = c.num_kv_heads * c.group_size,
                             .num_kv_heads = c.num_kv_heads,
                             .head_dim_qk = kHeadDim,
                             .head_dim_vo = kHeadDim,
                             .page_size = kPageSize};
  std::mt19937 random(1);
  Lens qo, kv;
  draw(c, random, qo, kv);
  const std::int64_t batch = c.decodes, max_pages = 32768 / kPageSize;
  const Buffer lens(kv.size() * sizeof(std::int32_t), device);
  copy(lens.data(), device, kv.data(), kCpu, lens.size_bytes());
  const Buffer pages(static_cast<std::size_t>(batch * max_pages) * sizeof(std::int32_t), device);
  const DevicePageTable table{
      .seq_lens = TensorView::contiguous(lens.data(), DType::i32, {batch}, device),
      .block_tables = TensorView::contiguous(pages.data(), DType::i32, {batch, max_pages}, device)};
  BatchAttention engine(device);
  engine.reserve(shape, {.max_batch_size = c.decodes,
                         .max_total_q = batch,
                         .max_qo_len = 1,
                         .max_kv_entries = batch * max_pages});
  engine.plan_on_device(shape, 1, table);
  synchronize(device);
  const double us = timed_us([&] {
    for (int round = 0; round < kRounds; ++round) engine.plan_on_device(shape, 1, table);
    synchronize(device);
  });
  return us / kRounds;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Device device = parse_device(argc > 1 ? argv[1] : "cpu");
    fmt::print("{:32} {:>12} {:>12} {:>12}\n", "case", "planner us", "plan() us", "device us");
    for (const Case& c : kCases) {
      fmt::print("{:32} {:12.1f} {:12.1f}", c.name, planner_us(c), engine_us(c, device));
      if (device.is_cuda() && c.prefills == 0) fmt::print(" {:12.1f}", device_plan_us(c, device));
      fmt::print("\n");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_plan: %s\n", error.what());
    return 1;
  }
  return 0;
}
