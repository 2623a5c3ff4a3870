// The charts of a load test's page.
#pragma once

#include <string>
#include <vector>

#include "client/report/charts.h"
#include "client/report/html.h"
#include "client/report/run_files.h"

namespace reprise::client {

// Of measured requests that completed: client_ttft_ms, and all inter_chunk_ms.
enum class Subset { kAll, kCold, kWarm };
std::vector<double> TtftValues(const LoadRun& run, Subset subset);
std::vector<double> GapValues(const LoadRun& run, Subset subset);

Figure TtftFigure(const LoadRun& run);
Figure InterTokenFigure(const LoadRun& run);
Figure DepthFigure(const LoadRun& run);       // reuse depth against time saved
Figure PredictionFigure(const LoadRun& run);  // predicted against actual
Figure LoadFigure(const LoadRun& run);        // over time: requests
Figure LatencyFigure(const LoadRun& run);     // over time: TTFT
Figure SourceFigure(const LoadRun& run);      // over time: prompt tokens by tier

}  // namespace reprise::client
