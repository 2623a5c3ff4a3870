// The similarity of two unit vectors. One function for scans and graphs, so that the
// same pair always gets the same number.
//
// Threading  a pure function.
#pragma once

namespace reprise {

float InnerProduct(const float* a, const float* b, int dimensions);

}  // namespace reprise
