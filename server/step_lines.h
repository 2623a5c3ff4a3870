// The trace of the engine's steps as lines of a log.
#pragma once

#include "core/engine/step_trace.h"
#include "core/telemetry/log.h"

namespace reprise::server {

// Times in seconds.
LogFields ToLogFields(const StepTrace& trace);

}  // namespace reprise::server
