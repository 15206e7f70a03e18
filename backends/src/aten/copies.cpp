// Copies between the host and a GPU that the host does not wait for: by way of page-locked memory, which a GPU
// reads and writes by itself; and what tensors take of its memory. Nothing here needs CUDA's headers. On the CPU, too, for
// tests.

#include "../guarded.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <cstring>
#include <optional>

extern "C" {

// Numbers on their way to the host, and the moment at which they will be there.
struct selfcls_reading {
  at::Tensor numbers;
  std::optional<c10::Event> arrived;
};

// out: a copy of `count` values, f32 or 64-bit integers, in the host's memory, page-locked where a GPU is to fetch it.
char *selfcls_stage(const void *values, int64_t count, bool integers, bool for_gpu,
                    at::Tensor **out) {
  return guarded([&] {
    const auto options = at::TensorOptions().dtype(integers ? at::kLong : at::kFloat);
    const at::Tensor tensor = at::empty({count}, options.pinned_memory(for_gpu));
    std::memcpy(tensor.mutable_data_ptr(), values, count * tensor.element_size());
    out[0] = new at::Tensor(tensor);
  });
}

// out: what was staged, on the GPU of this number. The page-locked copy goes back to ATen's cache, which keeps it until the
// GPU has read it.
char *selfcls_send(const at::Tensor *staged, int64_t gpu, at::Tensor **out) {
  return guarded([&] {
    const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(gpu));
    out[0] = new at::Tensor(staged->to(device, staged->scalar_type(), /*non_blocking=*/true));
  });
}

// Begins to copy a tensor of f32 to the host, behind what its device was given so far.
char *selfcls_begin_read(const at::Tensor *tensor, selfcls_reading **out) {
  return guarded([&] {
    selfcls_reading reading;
    reading.numbers =
        tensor->to(at::kCPU, at::kFloat, /*non_blocking=*/true, /*copy=*/true).contiguous();
    const at::Device device = tensor->device();
    if (!device.is_cpu()) {
      const c10::impl::VirtualGuardImpl guard(device.type());
      reading.arrived.emplace(device.type());
      reading.arrived->record(guard.getStream(device));
    }
    *out = new selfcls_reading(std::move(reading));
  });
}

// Waits for what was begun, and copies it to `values`, room for `count`.
char *selfcls_finish_read(const selfcls_reading *reading, float *values, int64_t count) {
  return guarded([&] {
    if (reading->arrived) reading->arrived->synchronize();
    TORCH_CHECK(reading->numbers.numel() == count, "room for ", count, " numbers instead of ",
                reading->numbers.numel());
    std::memcpy(values, reading->numbers.const_data_ptr(), count * sizeof(float));
  });
}

// most: the most bytes of the memory of the GPU of this number that tensors had at once since this was last forgotten; 0
// before there is any.
char *selfcls_peak_memory(int64_t gpu, bool forget, int64_t *most) {
  return guarded([&] {
    c10::DeviceAllocator *const memory = c10::getDeviceAllocator(at::kCUDA);
    const auto index = static_cast<c10::DeviceIndex>(gpu);
    *most = 0;
    if (!memory->initialized()) return;
    if (forget) memory->resetPeakStats(index);
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *most = memory->getDeviceStats(index).allocated_bytes[all].peak;
  });
}

void selfcls_free_reading(selfcls_reading *reading) { delete reading; }

} // extern "C"
