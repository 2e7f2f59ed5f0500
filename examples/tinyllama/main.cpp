// The example as a program of its own; `quire generate` is the same.
#include <cstdio>
#include <exception>

#include "generate_command.h"

int main(int argc, char** argv) {
  CLI::App app{"Continues prompts with a small Llama", "tinyllama"};
  tinyllama::GenerateOptions options;
  tinyllama::add_options(app, options);
  try {
    app.parse(argc, argv);
    tinyllama::generate(options);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tinyllama: %s\n", error.what());
    return 1;
  }
  return 0;
}
