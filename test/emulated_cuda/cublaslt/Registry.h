// The objects that callers have made with a Create function: what is destroyed has to be one of them, and what is left
// when the process ends is a finding.
#ifndef AMC_TEST_EMULATED_CUDA_CUBLASLT_REGISTRY_H
#define AMC_TEST_EMULATED_CUDA_CUBLASLT_REGISTRY_H

#include <memory>

namespace amc::emulated {

// Takes the object; `name` is a literal.
void enter(std::shared_ptr<void> object, const char *name);
// Whether the object was alive. Its memory stays, for those who use it nevertheless.
bool retire(const void *object);
bool alive(const void *object);

} // namespace amc::emulated

#endif
