// The table at the end of a run.
#pragma once

#include <string>

#include "engine.h"

namespace tinyllama {

std::string report(const EngineStats& stats, const OperatorTimes& times, const LlamaModel& model);

}  // namespace tinyllama
