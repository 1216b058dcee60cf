// Data that is one long run of tokens. See Data.h for how it is cut, shuffled and labelled.
#ifndef AMC_RUNTIME_TRAINER_TOKENDATA_H
#define AMC_RUNTIME_TRAINER_TOKENDATA_H

#include "runtime/trainer/Data.h"

namespace amc::rt {

// `stored` is how a token lies in the file: U8 (bytes of a text), U16 or U32.
Expected<std::unique_ptr<DataSource>> openTokens(const DataRequest &request, DType stored);

} // namespace amc::rt

#endif
