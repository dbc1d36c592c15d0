// All fragments, in the order in which they build on each other: included once in an instruction
// set's file, behind its lanes, inside its unnamed namespace and target region. What they define is
// compiled for that target, so none of it has external linkage, and nothing that they need of other
// headers may come from here: isa.h has included it. Each fragment includes those that it uses.
#pragma once

#include "kernels/vocabulary-inl.h"
// Floats: norms, rotation, activations, rounding to integers, attention, products of 16-bit floats.
#include "kernels/float-inl.h"
#include "kernels/kv-inl.h"
#include "kernels/prefetch-inl.h"
// And the encoder of pictures.
#include "kernels/attention-inl.h"
#include "kernels/bfp-inl.h"
#include "kernels/dense-inl.h"
#include "kernels/resample-inl.h"
#if LAPIDARY_BYTE_PRODUCTS > 1
// Quantised products: dot-inl.h or maddubs-inl.h is included where blocks are summed.
#include "kernels/blocks-inl.h"
#include "kernels/matmul-inl.h"
#include "kernels/split-inl.h"
#endif
#include "kernels/screen-inl.h"
#include "kernels/table-inl.h"
