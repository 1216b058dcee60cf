// The functions whose code is longest, since they reduce large arguments exactly: apart from the others of their kind, which
// then need not wait for the driver to compile them.
#include "Unary.cuh"

using namespace amc;

AMC_REAL_UNARY(sin, sin(x))
AMC_REAL_UNARY(cos, cos(x))
AMC_REAL_UNARY(tan, tan(x))
