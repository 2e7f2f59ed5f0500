// `quire generate`, also what the standalone example does.
#pragma once

#include <CLI/CLI.hpp>

#include "generate_options.h"

namespace tinyllama {

void generate(const GenerateOptions& options);

}  // namespace tinyllama

namespace quire::cli {

void add_generate_command(CLI::App& app);

}  // namespace quire::cli
