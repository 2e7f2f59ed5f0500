// The `quire` program: picks the subcommand, turns exceptions into one line and an exit code.
#include <cstdio>
#include <exception>

#include "cli/commands.h"

int main(int argc, char** argv) {
  CLI::App app{"Quire: kernels for LLM inference serving", "quire"};
  app.set_version_flag("--version", QUIRE_VERSION);
  app.require_subcommand(1);
  quire::cli::add_generate_command(app);
  quire::cli::add_explain_command(app);
  quire::cli::add_replay_command(app);
  quire::cli::add_doctor_command(app);
  if constexpr (QUIRE_WITH_CUDA) quire::cli::add_compile_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quire: %s\n", error.what());
    return 1;
  }
  return 0;
}
