// All operations; one file for each family.
#ifndef AMC_DIALECT_TRAINOPS
#define AMC_DIALECT_TRAINOPS

include "compiler/dialect/TrainDialect.td"
include "compiler/dialect/CollectiveOps.td"
include "compiler/dialect/ExpertOps.td"
include "compiler/dialect/StepOps.td"
include "compiler/dialect/ElementwiseOps.td"
include "compiler/dialect/ShapeOps.td"
include "compiler/dialect/IndexOps.td"
include "compiler/dialect/ReductionOps.td"
include "compiler/dialect/MatmulOps.td"
include "compiler/dialect/MlpOps.td"
include "compiler/dialect/NormOps.td"
include "compiler/dialect/AttentionOps.td"
include "compiler/dialect/LossOps.td"
include "compiler/dialect/OptimizerOps.td"
include "compiler/dialect/FusionOps.td"

#endif
