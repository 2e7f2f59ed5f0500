// The subcommands of the `quire` program, one file each. Every function adds its command, options
// and what it does (CLI11's callback) to the program. A command fails by throwing quire::Error or,
// when it has said why already, CLI::RuntimeError with the exit code.
#pragma once

#include <CLI/CLI.hpp>

namespace quire::cli {

void add_compile_command(CLI::App& app);
void add_doctor_command(CLI::App& app);
void add_explain_command(CLI::App& app);
void add_generate_command(CLI::App& app);  // examples/tinyllama
void add_replay_command(CLI::App& app);

}  // namespace quire::cli
