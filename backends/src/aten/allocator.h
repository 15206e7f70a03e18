// What tensors on the CPU get their memory from: malloc, with the place of the values in it chosen here.
//
// libtorch's own allocator asks for aligned memory instead. For that glibc looks for a block that is larger than asked
// for and gives away what is left at both ends, so the block that a tensor leaves never fits another one of its size.
// A training step frees and asks for the same sizes again and again: a fifth of the memory lay idle in such gaps.
#pragma once

#ifdef __GLIBC__

#include <c10/core/Allocator.h>
#include <c10/core/alignment.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <cstdlib>

namespace {

// Values begin at a multiple of `gAlignment`, at least a pointer's room behind the beginning of their block, and that
// pointer, to the beginning, is right before them.
class Blocks final : public c10::Allocator {
public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &release, cpu};
    // Where both do not add up to a size, the sum is a small one.
    void *const block = bytes + c10::gAlignment > bytes ? std::malloc(bytes + c10::gAlignment) : nullptr;
    TORCH_CHECK(block != nullptr, "not enough memory: a tensor of ", bytes, " bytes was asked for");
    // malloc's blocks begin at multiples of 16, so there are at least 16 bytes between the two.
    const auto begin = reinterpret_cast<uintptr_t>(block);
    void **const values = reinterpret_cast<void **>((begin / c10::gAlignment + 1) * c10::gAlignment);
    values[-1] = block;
    return {values, values, &release, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void *to, const void *from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

private:
  static void release(void *values) {
    if (values != nullptr) std::free(static_cast<void **>(values)[-1]);
  }
};

// In use before the program begins: libtorch gives some blocks back to whichever allocator is in use then, so it must be
// the one that they are from. It is never destroyed, for tensors may outlive what is.
const bool blocks_in_use = [] {
  static Blocks *const blocks = new Blocks;
  c10::SetAllocator(c10::DeviceType::CPU, blocks);
  return true;
}();

} // namespace

#endif
