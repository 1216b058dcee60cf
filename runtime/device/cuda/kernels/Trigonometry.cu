// sin, cos and tan of doubles: their code is by far the longest of its kind, since they reduce large arguments exactly, so that
// they are a module of their own and the others need not wait for the driver to compile them.
#include "Unary.cuh"

using namespace amc;

AMC_UNARY(sin, double, f64, sin(x))
AMC_UNARY(cos, double, f64, cos(x))
AMC_UNARY(tan, double, f64, tan(x))
