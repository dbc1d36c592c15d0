#include "memory_reserve.h"

#include <cstdlib>
#include <new>
#include <utility>

namespace cli {

namespace {

void* reserve = nullptr;
std::new_handler before = nullptr;

void give_back() {
  std::free(std::exchange(reserve, nullptr));
  throw std::bad_alloc();
}

}  // namespace

MemoryReserve::MemoryReserve(std::size_t bytes) {
  reserve = std::malloc(bytes);
  if (reserve == nullptr) throw std::bad_alloc();
  before = std::set_new_handler(give_back);
}

MemoryReserve::~MemoryReserve() {
  std::set_new_handler(before);
  std::free(std::exchange(reserve, nullptr));
}

}  // namespace cli
