#pragma once

// What a fragment (a file called …-inl.h) sees where no instruction set includes it: the scalar
// lanes, which have every primitive of vocabulary-inl.h, and whatever the fragments use. For
// editors, and for the test that compiles each fragment by itself.

#include "kernels/isa.h"

#define LAPIDARY_BYTE_PRODUCTS 4

namespace lapidary::kernels {
namespace {

#include "kernels/lanes-scalar-inl.h"

}  // namespace
}  // namespace lapidary::kernels

// A fragment stands in these.
using namespace lapidary;
using namespace lapidary::kernels;
