#include "emulator.h"

#include <stdexcept>

namespace quire::emulator {

void install(int) { throw std::runtime_error("emulator: not built yet"); }
void uninstall() {}

}  // namespace quire::emulator
